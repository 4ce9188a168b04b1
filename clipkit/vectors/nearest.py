"""The nearest vectors of a search: selection, ties, padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clipkit.errors import LibraryDamaged

Search = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""k -> scores float32 (q, k) and rows int64 (q, k), best first, rows padded with -1."""


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
    depending on its position in the matrix, so identical pictures would not tie. Inverted lists of half-precision
    vectors compute the same scores.
    """
    import faiss

    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def nearest(search: Search, ids: np.ndarray, queries: int, k: int, among: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of `among` vectors: scores float32 (q, k) and ids int64 (q, k), padded with -inf and -1.

    ids: int64 (n,), the id of each row.

    FAISS breaks ties for the last place arbitrarily, so more results are requested until the last place is not tied.
    Raises LibraryDamaged if the search returns a row that does not exist.
    """
    if not among or k < 1:
        return empty_results(queries, max(k, 0))
    wanted = min(k + 1, among)
    while True:
        scores, rows = search(wanted)
        if wanted == among or ((scores[:, k - 1] > scores[:, -1]) | (rows[:, -1] < 0)).all():
            break
        wanted = min(4 * wanted, among)
    if rows.max(initial=-1) >= len(ids):
        raise LibraryDamaged("the search index is corrupt; run `clipkit check --repair`")
    found = rows >= 0
    known = np.where(found, ids[np.where(found, rows, 0)], -1)
    return best_of(np.where(found, scores, -np.inf), known, k)


def nearest_in(index: Any, ids: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of a small index in memory, as `nearest` does."""
    return nearest(lambda wanted: index.search(queries, wanted), ids, len(queries), k, index.ntotal)


def row_selector(allowed: np.ndarray) -> Any:
    """Return a FAISS selector of the rows that are True in `allowed`, bool (n,)."""
    import faiss

    bits = np.packbits(allowed, bitorder="little")
    selector: Any = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    selector.bits_kept_alive = bits  # FAISS only points to them
    return selector
