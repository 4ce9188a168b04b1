"""The searchers of one library: the newest snapshot for each model, shared by the connections of several threads."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.layout import Layout
from clipkit.models.loading import load_encoder
from clipkit.models.shared_encoder import SharedEncoder
from clipkit.searching.searcher import Searcher

QUICK_S = 0.25
"""A snapshot that took less time than this to load is loaded again while a search waits."""

REST = 10.0
"""In the background, a snapshot is loaded again after this many times the seconds that loading it took."""


class Searchers:
    """Keeps a searcher for each model until the catalog changes. Safe to share between threads.

    `keep_answering`: where loading takes long, answer from the last snapshot while the next one is loaded in the
    background, so that searching goes on while pictures are indexed. Otherwise every search sees the last commit.
    """

    def __init__(self, layout: Layout, *, keep_answering: bool = False) -> None:
        self.layout, self.keep_answering = layout, keep_answering
        self._snapshots: dict[tuple[str, str], Searcher] = {}
        self._seconds: dict[tuple[str, str], float] = {}
        self._loading: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._rest_until: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self.last_used = time.monotonic()

    def get(self, catalog: Catalog, model: str, device: str) -> Searcher:
        """Return a searcher for a model of the library that reads through this connection.

        Raises ModelNotAvailable.
        """
        key = (model, device)
        self.last_used = time.monotonic()
        with self._lock:
            loading, known = self._loading[key], self._snapshots.get(key)
        if known is not None:
            known = known.over(catalog)
            if not known.is_stale():
                return known
            if self.keep_answering and self._seconds[key] > QUICK_S:
                self._load_in_background(key)
                return known
        with loading:  # several threads wait for one of them
            newer = self._snapshots.get(key)
            if newer is None or (newer := newer.over(catalog)).is_stale():
                newer = self._load(catalog, key)
            return newer

    def refresh(self, catalog: Catalog) -> None:
        """Load again, before returning, what is kept of an older state of the catalog."""
        for key in list(self._snapshots):
            with self._loading[key]:
                known = self._snapshots.get(key)
                if known is not None and known.over(catalog).is_stale():
                    self._load(catalog, key)

    def clear(self) -> None:
        """Forget all snapshots; searches under way finish with theirs."""
        with self._lock:
            self._snapshots.clear()

    def __len__(self) -> int:
        return len(self._snapshots)

    def _load(self, catalog: Catalog, key: tuple[str, str]) -> Searcher:
        began = time.monotonic()
        model, device = key
        searcher = Searcher(catalog, self.layout, SharedEncoder(load_encoder(model, device, search=True)))
        if self.keep_answering:  # a search alone loads them itself, and counts the time
            _ = searcher.vectors, searcher.matcher
        self._seconds[key] = time.monotonic() - began
        with self._lock:
            self._snapshots[key] = searcher
        return searcher

    def _load_in_background(self, key: tuple[str, str]) -> None:
        if time.monotonic() < self._rest_until.get(key, 0.0) or not self._loading[key].acquire(blocking=False):
            return

        def load() -> None:
            try:
                with Catalog.open(self.layout.catalog) as catalog:
                    self._load(catalog, key)
            finally:
                self._rest_until[key] = time.monotonic() + REST * self._seconds[key]
                self._loading[key].release()

        threading.Thread(target=load, name="clipkit-load", daemon=True).start()
