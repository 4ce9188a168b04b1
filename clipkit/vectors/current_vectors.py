"""Search the current vectors of a space: the published store, plus what has changed in the catalog since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from clipkit.errors import LibraryDamaged
from clipkit.vectors.manifest import Manifest
from clipkit.vectors.publishing import publish
from clipkit.vectors.store import FaissStore, best_of, empty_results, exact_index, nearest

REPUBLISH_COUNT, REPUBLISH_SHARE = 1000, 0.05
"""Republish a store once more newer vectors than this exist, and more than this share of its size."""


class EmbeddingSource(Protocol):
    """What this module reads from a catalog; `clipkit.catalog.catalog.Catalog` implements it."""

    def spaces(self) -> dict[str, tuple[int, int]]: ...
    def searchable_embeddings(self, space: str, *, after_id: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...
    def searchable_ids(self, space: str) -> np.ndarray: ...
    def count_searchable(self, space: str, *, after_id: int = 0) -> int: ...
    def last_embedding_id(self, space: str) -> int: ...
    def last_issued_id(self) -> int: ...
    def vectors(self, ids: np.ndarray) -> np.ndarray: ...


class CurrentVectors:
    """Exact search over the searchable embeddings of the catalog, as they are now.

    Embeddings newer than the store's watermark are searched separately. If files have gone or come back since (the
    space's revision differs), the store's vectors are masked and missing ones are added. Without an intact store all
    vectors are read from the catalog, which is slower but equally exact; `note` then says what to do.
    """

    def __init__(self, folder: Path, space: str, source: EmbeddingSource) -> None:
        self.folder, self.space, self._source, self.note = folder, space, source, ""
        self.dimension, self._revision = source.spaces()[space]
        self.store: FaissStore | None = None
        self._alive: np.ndarray | None = None
        try:
            self.store = FaissStore.open(folder)
        except FileNotFoundError:
            if any(folder.glob("*")):
                self.note = "its search index is missing; `clipkit check --repair` rebuilds it"
        except LibraryDamaged as error:
            self.note = str(error)
        if self.store and not _belongs(self.store.manifest, space, source):
            self.store, self.note = (
                None,
                f"the index in {folder} belongs to another catalog; run `clipkit check --repair`",
            )
        after = self.store.manifest.watermark if self.store else 0
        tail = list(source.searchable_embeddings(space, after_id=after))
        self._tail_ids = np.concatenate([np.zeros(0, np.int64), *(ids for ids, _ in tail)])
        self._tail = np.concatenate([np.zeros((0, self.dimension), np.float32), *(vectors for _, vectors in tail)])
        if self.store and self.store.manifest.revision != self._revision:
            self._check_against_catalog(self.store)
        self._tail_index = exact_index(self._tail) if len(self._tail) else None

    def _check_against_catalog(self, store: FaissStore) -> None:
        live = self._source.searchable_ids(self.space)
        self._alive = np.isin(store.ids, live, assume_unique=True)
        back = np.setdiff1d(live[live <= store.manifest.watermark], store.ids, assume_unique=True)
        if len(back):
            self._tail_ids = np.concatenate([back, self._tail_ids])
            self._tail = np.concatenate([self._source.vectors(back), self._tail])

    def __len__(self) -> int:
        stored = self.stored if self._alive is None else int(self._alive.sum())
        return stored + len(self._tail_ids)

    @property
    def stored(self) -> int:
        """The number of vectors in the published store, masked ones included; 0 without a store."""
        return 0 if self.store is None else len(self.store)

    @property
    def newer(self) -> np.ndarray:
        """Unit vectors, float32 (n, d), that are not in the store."""
        return self._tail

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest embeddings of each query, float32 (q, d), among the ids in `allowed`, int64 (m,).

        Returns scores float32 (q, k) and embedding ids int64 (q, k), best first, padded with -inf and -1.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        scores, ids = self._search_tail(queries, k, allowed)
        if self.store is None:
            return scores, ids
        mask = self._alive
        if allowed is not None:
            chosen = np.isin(self.store.ids, allowed)
            mask = chosen if mask is None else mask & chosen
        stored_scores, stored_ids = self.store.search(queries, k, mask)
        return best_of(np.concatenate([stored_scores, scores], 1), np.concatenate([stored_ids, ids], 1), k)

    def _search_tail(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        index, ids = self._tail_index, self._tail_ids
        if allowed is not None:
            inside = np.isin(ids, allowed)
            if not inside.all():
                index, ids = (exact_index(self._tail[inside]) if inside.any() else None), ids[inside]
        return nearest(index, ids, queries, k) if index is not None else empty_results(len(queries), max(k, 0))


def needs_publishing(folder: Path, space: str, source: EmbeddingSource) -> bool:
    """Return whether the published store is missing, corrupt, or outdated enough to be republished."""
    try:
        manifest = FaissStore.open(folder).manifest
    except (FileNotFoundError, LibraryDamaged):
        return True
    if not _belongs(manifest, space, source) or manifest.revision != source.spaces()[space][1]:
        return True
    return source.count_searchable(space, after_id=manifest.watermark) > max(
        REPUBLISH_COUNT, REPUBLISH_SHARE * manifest.count
    )


def publish_from_catalog(folder: Path, space: str, source: EmbeddingSource) -> Manifest:
    """Write the store from the catalog. Hold the library's write lock."""
    dimension, revision = source.spaces()[space]
    return publish(
        folder,
        source.searchable_embeddings(space),
        space=space,
        dimension=dimension,
        watermark=source.last_embedding_id(space),
        revision=revision,
    )


def _belongs(manifest: Manifest, space: str, source: EmbeddingSource) -> bool:
    """Return False for a store of another space, or of a catalog since replaced by a backup, which reuses ids."""
    expected = space, source.spaces()[space][0]
    return (manifest.space, manifest.dimension) == expected and manifest.watermark <= source.last_issued_id()
