"""The published vectors of a space: a memory-mapped FAISS index, replaced as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipkit.errors import LibraryDamaged
from clipkit.vectors.manifest import Manifest, head_digest, read_manifest

GATHER_SHARE = 0.05
"""Filters that keep a smaller share of the vectors than this gather those vectors; others use a bitmap."""


class VectorStore(Protocol):
    """Vectors with ids, searchable by inner product."""

    dimension: int

    def __len__(self) -> int: ...

    @property
    def ids(self) -> np.ndarray:
        """int64 (n,), ascending."""
        ...

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k vectors with the largest inner product for each query.

        `queries`: float32 (q, d).
        `allowed`: bool (n,), which vectors may be returned; applied before the top k are selected.
        Returns scores float32 (q, k) and ids int64 (q, k), best first, padded with -inf and -1.
        """
        ...


def empty_results(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of -inf and ids of -1, (queries, k)."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def best_of(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of scores float32 (q, n) with ids int64 (n,) or (q, n); ties go to the smaller id."""
    ids = np.broadcast_to(ids, scores.shape)
    order = np.lexsort((ids, -scores))[:, :k]
    out_scores, out_ids = empty_results(len(scores), k)
    out_scores[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    out_ids[:, : order.shape[1]] = np.take_along_axis(ids, order, 1)
    out_ids[np.isneginf(out_scores)] = -1
    return out_scores, out_ids


def exact_index(vectors: np.ndarray) -> Any:
    """Build a half-precision FAISS index of float32 (n, d).

    All scores come from such an index and never from a matrix product: BLAS rounds the same vector differently
    depending on its position in the matrix, so identical pictures would not tie.
    """
    import faiss

    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def nearest(
    index: Any, ids: np.ndarray, queries: np.ndarray, k: int, *, among: int | None = None, params: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best as `VectorStore.search` does; `among` is the number of vectors that `params` selects.

    FAISS breaks ties for the last place arbitrarily, so more results are requested until the last place is not tied.
    """
    among = index.ntotal if among is None else among
    if not among or k < 1:
        return empty_results(len(queries), max(k, 0))
    wanted = min(k + 1, among)
    while True:
        scores, positions = index.search(queries, wanted, params=params)
        if wanted == among or (scores[:, k - 1] > scores[:, -1]).all():
            break
        wanted = min(4 * wanted, among)
    found = positions >= 0
    return best_of(np.where(found, scores, -np.inf), np.where(found, ids[positions], -1), k)


class FaissStore:
    """Exact search over half-precision vectors. The catalog stores the same precision, so nothing is lost."""

    def __init__(self, index: Any, ids: np.ndarray, manifest: Manifest) -> None:
        self._index, self.ids, self.manifest = index, ids, manifest
        self.dimension = manifest.dimension

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def open(cls, folder: Path) -> FaissStore:
        """Memory-map the store that was published last; its vectors are read only when searched.

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
        import faiss

        for name, (size, _) in manifest.files.items():
            try:
                actual = (folder / name).stat().st_size
            except OSError:
                actual = -1
            if actual != size:
                raise LibraryDamaged(f"{folder / name} is missing or truncated; run `clipkit check --repair`")
        ids_file, index_file = sorted(manifest.files)  # "ids-..." sorts before "index-..."
        count, dimension = manifest.count, manifest.dimension
        try:
            if head_digest(folder / index_file, count, dimension) != manifest.head:
                raise ValueError("corrupt head: FAISS would crash or hang on it")
            index = faiss.read_index(str(folder / index_file), faiss.IO_FLAG_MMAP_IFC)
            ids = np.load(folder / ids_file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # FAISS and NumPy raise all kinds of errors on flipped bits
            raise LibraryDamaged(f"could not read the index in {folder}; run `clipkit check --repair`") from error
        if (index.ntotal, index.d, ids.shape, ids.dtype) != (count, dimension, (count,), np.int64):
            raise LibraryDamaged(f"the index in {folder} does not match its manifest; run `clipkit check --repair`")
        return cls(index, ids, manifest)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        if not len(self) or k < 1:
            return empty_results(len(queries), max(k, 0))
        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is None:
            return nearest(self._index, self.ids, queries, k)
        rows = np.flatnonzero(allowed)
        if not len(rows):
            return empty_results(len(queries), k)
        if len(rows) <= max(k, GATHER_SHARE * len(self)):
            return nearest(exact_index(self._index.reconstruct_batch(rows)), self.ids[rows], queries, k)
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        return nearest(self._index, self.ids, queries, k, among=len(rows), params=parameters)

    def reconstruct(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors, float32 (n, d), of ids in the store, in that order; raise KeyError for other ids."""
        positions = np.minimum(np.searchsorted(self.ids, ids), max(len(self) - 1, 0))
        if not len(ids):
            return np.zeros((0, self.dimension), np.float32)
        if not len(self) or not np.array_equal(self.ids[positions], ids):
            raise KeyError("no such id in the store")
        return self._index.reconstruct_batch(np.ascontiguousarray(positions))
