"""Vectors in half precision, memory-mapped, of which a search compares every one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from clipkit.vectors.nearest import exact_index, nearest, nearest_in, row_selector
from clipkit.vectors.prereading import preread_all
from clipkit.vectors.segment_files import synced

GATHER_SHARE = 0.05
"""Filters that keep a smaller share of the vectors than this gather those vectors; others use a bitmap."""
PREREAD_SHARE = 0.002
"""Gathers of fewer vectors fault in their pages rather than read the whole file ahead."""


def write_exact(index_file: Path, chunks: Iterable[np.ndarray], dimension: int) -> int:
    """Write an index of chunks of unit vectors, float32 (m, d); return how many."""
    import faiss

    index = exact_index(np.zeros((0, dimension), np.float32))
    for vectors in chunks:
        index.add(np.ascontiguousarray(vectors, np.float32))
    with synced(index_file) as file:  # FAISS's own writer ignores a full disk at its last block
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    return index.ntotal


class ExactVectors:
    """An index that `write_exact` wrote; its vectors are read only when searched."""

    def __init__(self, index_file: Path) -> None:
        import faiss

        self._file = index_file
        self._index = faiss.read_index(str(index_file), faiss.IO_FLAG_MMAP_IFC)
        self.shape = self._index.ntotal, self._index.d

    def search(
        self, ids: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best as `VectorStore.search` does; ids: int64 (n,), of every row."""
        import faiss

        if allowed is None:
            preread_all(self._file)
            return nearest(lambda wanted: self._index.search(queries, wanted), ids, len(queries), k, self.shape[0])
        rows = np.flatnonzero(allowed)
        if len(rows) <= max(k, GATHER_SHARE * len(ids)):
            return nearest_in(exact_index(self.rows(rows)), ids[rows], queries, k)
        preread_all(self._file)
        parameters = faiss.SearchParameters(sel=row_selector(allowed))  # type: ignore[call-arg]
        return nearest(
            lambda wanted: self._index.search(queries, wanted, params=parameters), ids, len(queries), k, len(rows)
        )

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of rows, float32 (m, d)."""
        if len(rows) > PREREAD_SHARE * self.shape[0]:
            preread_all(self._file)
        if not len(rows):
            return np.zeros((0, self.shape[1]), np.float32)
        return self._index.reconstruct_batch(np.ascontiguousarray(rows))
