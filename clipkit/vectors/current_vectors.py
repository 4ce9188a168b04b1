"""Search the current vectors of a space: the published store, plus what has changed in the catalog since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from clipkit.errors import LibraryDamaged
from clipkit.progress import ProgressCallback
from clipkit.vectors.manifest import Manifest
from clipkit.vectors.nearest import best_of, empty_results, exact_index, nearest_in
from clipkit.vectors.plan import EXACT, IndexPlan, plan_for
from clipkit.vectors.publishing import publish, publish_changes
from clipkit.vectors.store import FaissStore

REBUILD_SHARE = 0.1
"""Share of the main segment that may be added, or removed, before it is rebuilt."""
REBUILD_COUNT = 1000
"""So many may be added in any case."""
FOLD_SHARE = 0.1
"""Newer vectors are written to the tail once they are more than this share of it, so that it is seldom rewritten."""
CANDIDATES = 4
"""Results of a store of one byte a component that are scored again, for each that is asked for."""

Plans = Callable[[int], IndexPlan]
"""Number of vectors -> how to store them."""
Work = Literal["nothing", "changes", "everything"]


class EmbeddingSource(Protocol):
    """What this module reads from a catalog; `clipkit.catalog.catalog.Catalog` implements it."""

    def spaces(self) -> dict[str, tuple[int, int]]: ...
    def searchable_embeddings(self, space: str, *, after_id: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...
    def searchable_ids(self, space: str) -> np.ndarray: ...
    def searchable_among(self, space: str, ids: np.ndarray) -> np.ndarray: ...
    def changed_since(self, space: str, revision: int) -> np.ndarray | None: ...
    def count_searchable(self, space: str, *, after_id: int = 0) -> int: ...
    def last_embedding_id(self, space: str) -> int: ...
    def last_issued_id(self) -> int: ...
    def vectors(self, ids: np.ndarray) -> np.ndarray: ...


class CurrentVectors:
    """Search over the searchable embeddings of the catalog, as they are now.

    Embeddings newer than the store's watermark are searched separately. Files that have gone or come back since (the
    space's revision differs) are looked up one by one: the store's vectors are masked, and missing ones are added.
    Without an intact store all vectors are read from the catalog, which is slower but exact; `note` then says what to
    do.
    """

    def __init__(self, folder: Path, space: str, source: EmbeddingSource) -> None:
        self.folder, self.space, self._source, self.note = folder, space, source, ""
        self.dimension, self.revision = source.spaces()[space]
        self.store: FaissStore | None = None
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
        newer = list(source.searchable_embeddings(space, after_id=after))
        self._newer_ids = np.concatenate([np.zeros(0, np.int64), *(ids for ids, _ in newer)])
        self._newer = np.concatenate([np.zeros((0, self.dimension), np.float32), *(vectors for _, vectors in newer)])
        self.removed = np.zeros(0, np.int64) if self.store is None else self.store.removed
        if self.store and self.store.manifest.revision != self.revision:
            self._apply_changes(self.store)
        self._newer_index = exact_index(self._newer) if len(self._newer) else None

    def _apply_changes(self, store: FaissStore) -> None:
        """Find the vectors of the store whose files have gone since, and older ones whose files are back."""
        before, changed = store.manifest.revision, None
        if before < self.revision:  # otherwise the catalog was replaced by an older one
            changed = self._source.changed_since(self.space, before)
        if changed is None:  # the store is older than the record of changes
            alive = self._source.searchable_ids(self.space)
            gone = np.setdiff1d(store.ids, alive)
        else:
            changed = np.union1d(changed, self.removed)
            alive = self._source.searchable_among(self.space, changed)
            gone = np.setdiff1d(changed, alive)
        self.removed = gone if changed is None else gone[store.contains(gone)]
        alive = alive[alive <= store.manifest.watermark]
        back = alive[~store.contains(alive)]
        if len(back):
            self._newer_ids = np.concatenate([back, self._newer_ids])
            self._newer = np.concatenate([self._source.vectors(back), self._newer])

    def __len__(self) -> int:
        return self.stored - len(self.removed) + len(self._newer_ids)

    @property
    def stored(self) -> int:
        """The number of vectors in the published store, removed ones included; 0 without a store."""
        return 0 if self.store is None else len(self.store)

    @property
    def newer_ids(self) -> np.ndarray:
        """The ids, int64 (n,), of the vectors that are not in the store."""
        return self._newer_ids

    @property
    def newer(self) -> np.ndarray:
        """Unit vectors, float32 (n, d), that are not in the store."""
        return self._newer

    def added_after(self, count: int) -> np.ndarray | None:
        """Return the vectors, float32 (m, d), that were added after the first `count`; None if that is unknown."""
        if self.store is None:
            return None if count else self._newer
        stored = self.store.added_after(count)
        return None if stored is None else np.concatenate([stored, self._newer])

    @cached_property
    def _kept(self) -> np.ndarray | None:
        """bool (stored,), the vectors of the store that searches may return; None for all."""
        if self.store is None or not len(self.removed):
            return None
        kept = np.ones(len(self.store), bool)
        kept[self.store.positions(self.removed)] = False
        return kept

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest embeddings of each query, float32 (q, d), among the ids in `allowed`, int64 (m,).

        Returns scores float32 (q, k) and embedding ids int64 (q, k), best first, padded with -inf and -1. Of a store
        with inverted lists, some of the nearest may be missing; see `IndexPlan.recall`.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        scores, ids = self._search_newer(queries, k, allowed)
        if self.store is None:
            return scores, ids
        mask = self._kept
        if allowed is not None:
            chosen = np.zeros(len(self.store), bool)
            chosen[self.store.positions(np.unique(allowed))] = True
            mask = chosen if mask is None else mask & chosen
        stored_scores, stored_ids = self._search_store(self.store, queries, k, mask)
        if not len(self._newer_ids):
            return stored_scores, stored_ids
        return best_of(np.concatenate([stored_scores, scores], 1), np.concatenate([stored_ids, ids], 1), k)

    def _search_store(
        self, store: FaissStore, queries: np.ndarray, k: int, mask: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if store.exact_scores:
            return store.search(queries, k, mask)
        scores, ids = store.search(queries, CANDIDATES * k, mask)
        for row, query in enumerate(queries):
            found = ids[row][ids[row] >= 0]
            if len(found):
                try:
                    vectors = self._source.vectors(found)
                except KeyError:  # deleted from the catalog since this was opened: keep the rounded scores
                    continue
                scores[row], ids[row] = nearest_in(exact_index(vectors), found, query[None], CANDIDATES * k)
        return scores[:, :k], ids[:, :k]

    def _search_newer(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        index, ids = self._newer_index, self._newer_ids
        if allowed is not None:
            inside = np.isin(ids, allowed)
            if not inside.all():
                index, ids = (exact_index(self._newer[inside]) if inside.any() else None), ids[inside]
        return nearest_in(index, ids, queries, k) if index is not None else empty_results(len(queries), max(k, 0))


def needed_work(folder: Path, space: str, source: EmbeddingSource, plans: Plans = plan_for) -> Work:
    """Return what brings the published store up to date: publishing everything, only the changes, or nothing."""
    try:
        manifest = FaissStore.open(folder).manifest
    except (FileNotFoundError, LibraryDamaged):
        return "everything"
    main, tail = manifest.main.count, manifest.tail.count if manifest.tail else 0
    if not _belongs(manifest, space, source) or (plans(main).lists and not manifest.main.plan.lists):
        return "everything"
    most = max(REBUILD_COUNT, REBUILD_SHARE * main)
    if tail + source.count_searchable(space, after_id=manifest.watermark) > most:
        return "everything"
    current = CurrentVectors(folder, space, source)
    newer = len(current.newer)
    if tail + newer > most or len(current.removed) > REBUILD_SHARE * main:
        return "everything"
    changed = manifest.revision != current.revision
    return "changes" if changed or newer > min(FOLD_SHARE * tail, REBUILD_COUNT) else "nothing"


def publish_from_catalog(
    folder: Path,
    space: str,
    source: EmbeddingSource,
    *,
    chunks: Iterator[tuple[np.ndarray, np.ndarray]] | None = None,
    queries: np.ndarray | None = None,
    plans: Plans = plan_for,
    progress: ProgressCallback | None = None,
) -> Manifest:
    """Write the whole store from the catalog. Hold the library's write lock.

    chunks: `source.searchable_embeddings(space)`, if the caller wants to see them pass.
    queries: unit vectors of texts, float32 (q, d), for which the number of probes is chosen; without them the index is
        exact.
    """
    dimension, revision = source.spaces()[space]
    plan = plans(source.count_searchable(space)) if queries is not None else EXACT
    return publish(
        folder,
        source.searchable_embeddings(space) if chunks is None else chunks,
        space=space,
        dimension=dimension,
        watermark=source.last_embedding_id(space),
        revision=revision,
        plan=plan,
        queries=queries,
        progress=progress,
    )


def publish_changes_from_catalog(current: CurrentVectors, source: EmbeddingSource) -> Manifest:
    """Add to the published store what it lacks, and mark what has gone. Hold the library's write lock."""
    return publish_changes(
        current.folder,
        [(current.newer_ids, current.newer)],
        current.removed,
        watermark=source.last_embedding_id(current.space),
        revision=current.revision,
    )


def _belongs(manifest: Manifest, space: str, source: EmbeddingSource) -> bool:
    """Return False for a store of another space, or of a catalog since replaced by a backup, which reuses ids."""
    expected = space, source.spaces()[space][0]
    return (manifest.space, manifest.dimension) == expected and manifest.watermark <= source.last_issued_id()
