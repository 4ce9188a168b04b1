"""The published vectors of a space: a FAISS index in a memory-mapped file that is replaced whole."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from clipkit.errors import LibraryDamaged
from clipkit.vectors.manifest import Manifest, head_digest, read_manifest

GATHER_SHARE = 0.05
"""Filters that leave fewer of the vectors than this are answered by reading just those, else by a bitmap."""


class VectorStore(Protocol):
    """Vectors with ids that can be searched by inner product."""

    dimension: int

    def __len__(self) -> int: ...

    @property
    def ids(self) -> np.ndarray:
        """int64 (n,), rising."""
        ...

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k vectors with the largest inner products for each query.

        `queries`: float32 (q, d). `allowed`: bool (n,), which vectors may be found: applied before the k are chosen.
        Returns scores float32 (q, k) and ids int64 (q, k), best first, padded with -inf and -1.
        """
        ...


def empty_results(queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of -inf and ids of -1, (queries, k)."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def best_of(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of scores float32 (q, n) with ids int64 (n,) or (q, n); ties go to the smaller id."""
    ids = np.broadcast_to(ids, scores.shape)
    order = np.lexsort((ids, -scores))[:, :k]
    out_scores, out_ids = empty_results(len(scores), k)
    out_scores[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    out_ids[:, : order.shape[1]] = np.take_along_axis(ids, order, 1)
    out_ids[np.isneginf(out_scores)] = -1
    return out_scores, out_ids


def exact_index(vectors: np.ndarray):
    """A FAISS index of float32 (n, d) in half precision.

    All scores come from such an index, never from a matrix product: BLAS rounds one and the same vector differently
    by where in the matrix it stands, and then equal pictures would not tie.
    """
    import faiss

    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def nearest(
    index, ids: np.ndarray, queries: np.ndarray, k: int, *, among: int | None = None, params=None
) -> tuple[np.ndarray, np.ndarray]:
    """The k best as `VectorStore.search` returns them; `among`: how many vectors the search parameters leave.

    Of vectors that tie for the last place FAISS keeps any, so this looks further until the place is not tied.
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
    """Exact search over half-precision vectors: the very values that the catalog holds, so nothing is lost."""

    def __init__(self, index, ids: np.ndarray, manifest: Manifest) -> None:
        self._index, self.ids, self.manifest = index, ids, manifest
        self.dimension = manifest.dimension

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def open(cls, folder: Path) -> FaissStore:
        """Maps the files of the store that was published last; nothing is read until it is searched.

        Raises FileNotFoundError if none was published, LibraryDamaged if a file is missing, cut off or no index.
        """
        manifest = read_manifest(folder)
        while True:
            try:
                return cls._map(folder, manifest)
            except LibraryDamaged:
                before, manifest = manifest, read_manifest(folder)
                if manifest == before:
                    raise
                # Else another process has published, and swept the files, since the manifest was read.

    @classmethod
    def _map(cls, folder: Path, manifest: Manifest) -> FaissStore:
        import faiss

        for name, (size, _) in manifest.files.items():
            try:
                actual = (folder / name).stat().st_size
            except OSError:
                actual = -1
            if actual != size:
                raise LibraryDamaged(f"{folder / name} is missing or cut off; run `clipkit check --repair`")
        ids_file, index_file = sorted(manifest.files)  # "ids-..." sorts before "index-..."
        count, dimension = manifest.count, manifest.dimension
        try:
            if head_digest(folder / index_file, count, dimension) != manifest.head:
                raise ValueError("a damaged head makes FAISS crash or never end")
            index = faiss.read_index(str(folder / index_file), faiss.IO_FLAG_MMAP_IFC)
            ids = np.load(folder / ids_file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # what a flipped bit makes FAISS and NumPy raise has no common base
            raise LibraryDamaged(f"the index in {folder} cannot be read; run `clipkit check --repair`") from error
        if (index.ntotal, index.d, ids.shape, ids.dtype) != (count, dimension, (count,), np.int64):
            raise LibraryDamaged(f"the index in {folder} is not what its manifest says; run `clipkit check --repair`")
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
        """Vectors float32 (n, d) of ids that the store holds, in that order; raises KeyError for others."""
        positions = np.minimum(np.searchsorted(self.ids, ids), max(len(self) - 1, 0))
        if not len(ids):
            return np.zeros((0, self.dimension), np.float32)
        if not len(self) or not np.array_equal(self.ids[positions], ids):
            raise KeyError("no such id in the store")
        return self._index.reconstruct_batch(np.ascontiguousarray(positions))
