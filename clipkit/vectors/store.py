"""The published vectors of a space: a large main segment, a small tail, and what searches must skip."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from clipkit.errors import LibraryDamaged
from clipkit.vectors.exact import ExactVectors
from clipkit.vectors.ivf import IvfVectors
from clipkit.vectors.manifest import Manifest, Segment, head_digest, read_manifest
from clipkit.vectors.nearest import best_of, empty_results
from clipkit.vectors.segment_files import mapped_array


class VectorStore(Protocol):
    """Vectors with ids, searchable by inner product."""

    dimension: int

    def __len__(self) -> int: ...

    @property
    def ids(self) -> np.ndarray:
        """int64 (n,), without duplicates."""
        ...

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k vectors with the largest inner product for each query.

        `queries`: float32 (q, d).
        `allowed`: bool (n,), which vectors may be returned; applied before the top k are selected.
        Returns scores float32 (q, k) and ids int64 (q, k), best first, padded with -inf and -1.
        """
        ...


class FaissStore:
    """A published store, opened; its vectors are read only when searched.

    `removed`: the ids, int64, that the manifest says are to be skipped. `search` leaves that to the caller's mask.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest, self.dimension = folder, manifest, manifest.dimension
        self._segments = [_OpenSegment(folder, manifest.main, manifest.dimension, ascending=True)]
        if manifest.tail:
            self._segments.append(_OpenSegment(folder, manifest.tail, manifest.dimension, ascending=False))
        self.removed = np.zeros(0, np.int64)
        for name in manifest.removed_files:
            self.removed = np.array(mapped_array(folder / name, manifest.removed))

    def __len__(self) -> int:
        return self.manifest.count

    @cached_property
    def ids(self) -> np.ndarray:
        """int64 (n,): ascending in the main segment, then in the order in which vectors were added."""
        parts = [segment.ids for segment in self._segments]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def exact_scores(self) -> bool:
        """Whether scores are those of half-precision vectors, as the catalog stores them."""
        return self.manifest.main.plan.bits == 16

    @classmethod
    def open(cls, folder: Path) -> FaissStore:
        """Memory-map the store that was published last.

        Raises FileNotFoundError if none is published, LibraryDamaged if a file is missing, truncated or invalid.
        """
        manifest = read_manifest(folder)
        while True:
            try:
                return cls._map(folder, manifest)
            except LibraryDamaged:
                before, manifest = manifest, read_manifest(folder)
                if manifest == before:
                    raise
                # Otherwise another process has published, and deleted the old files, since the manifest was read.

    @classmethod
    def _map(cls, folder: Path, manifest: Manifest) -> FaissStore:
        for name, (size, _) in manifest.files.items():
            try:
                actual = (folder / name).stat().st_size
            except OSError:
                actual = -1
            if actual != size:
                raise LibraryDamaged(f"{folder / name} is missing or truncated; run `clipkit check --repair`")
        try:
            return cls(folder, manifest)
        except LibraryDamaged:
            raise
        except Exception as error:  # FAISS and NumPy raise all kinds of errors on flipped bits
            raise LibraryDamaged(f"could not read the index in {folder}; run `clipkit check --repair`") from error

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        queries = np.ascontiguousarray(queries, np.float32)
        if not len(self) or k < 1 or not len(queries):
            return empty_results(len(queries), max(k, 0))
        results, start = [], 0
        for segment in self._segments:
            mask = None if allowed is None else allowed[start : start + len(segment.ids)]
            start += len(segment.ids)
            if mask is not None and not mask.any():
                continue
            results.append(segment.vectors.search(segment.ids, queries, k, mask))
        if len(results) == 1:
            return results[0]
        scores, ids = empty_results(len(queries), k)
        for segment_scores, segment_ids in results:
            both = np.concatenate([scores, segment_scores], axis=1), np.concatenate([ids, segment_ids], axis=1)
            scores, ids = best_of(*both, k)
        return scores, ids

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows of those of the ids that are in the store, int64 (m,), in no particular order."""
        rows, start = [np.zeros(0, np.int64)], 0
        for segment in self._segments:
            if len(segment.ids):
                rows.append(start + segment.rows_of(ids))
            start += len(segment.ids)
        return np.concatenate(rows)

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Return which of the ids are in the store, bool (m,)."""
        here = np.zeros(len(ids), bool)
        for segment in self._segments:
            here |= segment.find(ids) >= 0
        return here

    def tail_chunks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the ids int64 (n,) and the vectors float32 (n, d) of the tail, as one chunk; none without a tail."""
        return [(np.array(s.ids), s.vectors.rows(np.arange(len(s.ids)))) for s in self._segments[1:]]

    def added_after(self, count: int) -> np.ndarray | None:
        """Return the vectors, float32 (m, d), that were added after the first `count`; None if the tail is shorter."""
        missing, tail = self.manifest.count - count, self.manifest.tail
        if missing == 0:
            return np.zeros((0, self.dimension), np.float32)
        if tail is None or not 0 < missing <= tail.count:
            return None
        return self._segments[1].vectors.rows(np.arange(tail.count - missing, tail.count))

    def reconstruct(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors, float32 (n, d), of ids in the store, in that order; raise KeyError for other ids."""
        vectors = np.zeros((len(ids), self.dimension), np.float32)
        known = np.zeros(len(ids), bool)
        for segment in self._segments:
            rows = segment.find(ids)
            here = rows >= 0
            vectors[here], known = segment.vectors.rows(rows[here]), known | here
        if not known.all():
            raise KeyError("no such id in the store")
        return vectors


class _OpenSegment:
    """A segment of a store, with the ids of its rows, int64 (n,), in ascending order or not."""

    def __init__(self, folder: Path, segment: Segment, dimension: int, *, ascending: bool) -> None:
        index_file = segment.file(folder, "index")
        # FAISS would crash or hang on a corrupt head. With inverted lists the index file is all head.
        after = 0 if segment.plan.lists else 2 * segment.count * dimension
        if head_digest(index_file, after) != segment.head:
            raise ValueError(f"{index_file} has a corrupt head")
        self.vectors: IvfVectors | ExactVectors
        self.vectors = IvfVectors(folder, segment) if segment.plan.lists else ExactVectors(index_file)
        if self.vectors.shape != (segment.count, dimension):
            raise ValueError(f"{index_file} does not match its manifest")
        self.ids = mapped_array(segment.file(folder, "ids"), segment.count)
        self._ascending = ascending

    @cached_property
    def _order(self) -> np.ndarray | None:
        """The rows in the order of their ids; None if that is their order already."""
        return None if self._ascending else np.argsort(self.ids)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the row of each id, int64 (m,); -1 for ids that are not here."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids, sorter=self._order), len(self.ids) - 1)
        rows = places if self._order is None else self._order[places]
        return np.where(self.ids[rows] == ids, rows, -1)

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows of those of the ids that are here, int64 (m,)."""
        rows = self.find(ids)
        return rows[rows >= 0]
