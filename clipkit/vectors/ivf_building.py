"""Building inverted lists: cluster, assign, choose the number of probes, and write the lists in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipkit.progress import Progress, ProgressCallback
from clipkit.vectors.ivf import ROW_BYTES, list_table
from clipkit.vectors.plan import IndexPlan
from clipkit.vectors.segment_files import synced, write_array

CHUNK = 8192
"""Vectors held in single precision at a time."""
WINDOW = 64 << 20
"""Bytes of the list file that are put together at a time."""
ITERATIONS = 10
NEIGHBOURS = 10
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tuning:
    """`nprobe`: lists to probe. `recall`: the recall@10 of the queries it was chosen for."""

    nprobe: int
    recall: float


def write_ivf(
    folder: Path,
    version: int,
    rows: Spool,
    plan: IndexPlan,
    queries: np.ndarray,
    progress: ProgressCallback | None = None,
) -> Tuning:
    """Write the files index, lists and slots of a version from spooled vectors.

    queries: (q, d) unit vectors of texts that k-means has not seen, q at least 1. Texts lie outside the distribution of
        pictures and need many times the probes of pictures, so the number of probes is chosen for them.

    Memory: the sample for k-means, in single precision, and 100 bytes per vector.
    """

    def report(stage: str, done: int, total: int) -> None:
        if progress:
            progress(Progress(stage, done, total))

    centroids = cluster(rows, plan, report)
    lists, tuning = assign(rows, centroids, queries, plan, report)
    _write_lists(folder, version, rows, lists, centroids, plan, report)
    return tuning


class Spool:
    """Vectors in half precision in a file, in the order of their rows; read in parts, so that memory stays flat."""

    def __init__(self, path: Path, dimension: int) -> None:
        self.path, self.dimension = path, dimension
        self.count = 0

    def fill(self, chunks: Iterable[np.ndarray]) -> None:
        """Write chunks of unit vectors, float32 (m, d)."""
        with self.path.open("wb") as file:
            for vectors in chunks:
                file.write(np.ascontiguousarray(vectors, "<f2").data)
                self.count += len(vectors)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in half precision, (m, d).

        Each is read by itself: of a mapped file the system maps 64 KB around each row, which counts as this process's
        memory, and takes longer.
        """
        found = np.empty((len(rows), self.dimension), "<f2")
        with self.path.open("rb", buffering=0) as file:
            for row, vector in zip(rows.tolist(), found, strict=True):
                file.seek(row * vector.nbytes)
                file.readinto(vector.data)
        return found


def cluster(rows: Spool, plan: IndexPlan, report: Report) -> np.ndarray:
    """Return centroids of unit length, float32 (lists, d), by spherical k-means on a sample of the vectors.

    All lists are fitted together: clustering in two levels is faster, but text queries then need twice the probes.
    """
    import faiss

    points = min(rows.count, plan.lists * plan.points_per_list)
    chosen = np.sort(np.random.default_rng(0).choice(rows.count, points, replace=False))
    sample = np.empty((points, rows.dimension), np.float32)
    for start in range(0, points, CHUNK):
        sample[start : start + CHUNK] = rows.read(chosen[start : start + CHUNK])
    centroids = None
    for turn in range(ITERATIONS):  # one at a time, to report progress
        report("clustering vectors", turn, ITERATIONS)
        kmeans: Any = faiss.Kmeans(
            rows.dimension,
            plan.lists,
            niter=1,
            spherical=True,
            seed=turn + 1,
            min_points_per_centroid=1,
            max_points_per_centroid=points,
        )
        kmeans.train(sample, init_centroids=centroids)
        centroids = kmeans.centroids
    report("clustering vectors", ITERATIONS, ITERATIONS)
    assert centroids is not None
    return centroids


def assign(
    rows: Spool, centroids: np.ndarray, queries: np.ndarray, plan: IndexPlan, report: Report
) -> tuple[np.ndarray, Tuning]:
    """Return each row's list, int32 (n,), and how many lists to probe."""
    coarse = _coarse(centroids)
    lists = np.empty(rows.count, np.int32)
    scores = np.zeros((len(queries), 0), np.float32)
    found = np.zeros((len(queries), 0), np.int64)
    for start in range(0, rows.count, CHUNK):
        report("sorting vectors into lists", start, rows.count)
        vectors = rows.read(np.arange(start, min(start + CHUNK, rows.count))).astype(np.float32)
        lists[start : start + CHUNK] = coarse.search(vectors, 1)[1][:, 0]
        scores = np.concatenate([scores, queries @ vectors.T], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + len(vectors)), (len(queries), len(vectors)))
        found = np.concatenate([found, numbers], axis=1)
        best = np.argpartition(-scores, min(NEIGHBOURS, scores.shape[1]) - 1, axis=1)[:, :NEIGHBOURS]
        scores, found = np.take_along_axis(scores, best, 1), np.take_along_axis(found, best, 1)
    report("sorting vectors into lists", rows.count, rows.count)
    return lists, choose_probes(coarse, queries, lists[found], plan)


def choose_probes(coarse: Any, queries: np.ndarray, lists: np.ndarray, plan: IndexPlan) -> Tuning:
    """Return the least number of probes that finds enough of the queries' nearest vectors.

    coarse: the FAISS index of the centroids.
    lists: (q, k), the lists that hold the k nearest vectors of each query. A search finds those whose list is among
        the first `nprobe`, so recall follows from the order of the lists without searching.
    """
    order = coarse.search(np.ascontiguousarray(queries, np.float32), plan.lists)[1]
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(plan.lists), order.shape), 1)
    needed = np.sort(np.take_along_axis(places, lists.astype(np.int64), 1), axis=None) + 1
    nprobe = int(needed[min(len(needed), int(np.ceil(plan.recall * len(needed)))) - 1])
    return Tuning(nprobe, float((needed <= nprobe).mean()))


def _coarse(centroids: np.ndarray) -> Any:
    import faiss

    coarse: Any = faiss.IndexFlatIP(centroids.shape[1])
    coarse.add(centroids)
    return coarse


def _write_lists(
    folder: Path,
    version: int,
    rows: Spool,
    lists: np.ndarray,
    centroids: np.ndarray,
    plan: IndexPlan,
    report: Report,
) -> None:
    import faiss

    kind = {16: faiss.ScalarQuantizer.QT_fp16, 8: faiss.ScalarQuantizer.QT_8bit}[plan.bits]
    coarse = _coarse(centroids)
    index: Any = faiss.IndexIVFScalarQuantizer(
        coarse, rows.dimension, plan.lists, kind, faiss.METRIC_INNER_PRODUCT, False
    )  # False: the vectors themselves, not their residuals, so that scores are those of an exact index
    if plan.bits == 8:
        some = np.sort(np.random.default_rng(1).choice(rows.count, min(rows.count, 1 << 16), replace=False))
        index.sq.train(rows.read(some).astype(np.float32))
    index.is_trained = True
    index.ntotal = rows.count
    size = index.code_size
    sizes = np.bincount(lists, minlength=plan.lists)
    # A list is its vectors and then their row numbers, filled up so that every vector's place is a multiple of `size`:
    # the file is then also a table of vectors, from which filtered searches gather.
    places = sizes + -(-sizes * ROW_BYTES // size)
    starts = np.cumsum(places) - places
    order = np.argsort(lists, kind="stable")
    slots = np.empty(rows.count, np.int64)
    slots[order] = np.arange(rows.count) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    lists_file = folder / f"lists-{version}.bin"
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    with synced(lists_file) as file:
        for first, last in _windows(places, max(1, WINDOW // size)):
            report("writing the search index", int(firsts[first]), rows.count)
            members = order[firsts[first] : firsts[last]]
            vectors = rows.read(members)
            codes = vectors.view(np.uint8) if plan.bits == 16 else index.sq.compute_codes(vectors.astype(np.float32))
            for number in range(first, last):
                part = slice(firsts[number] - firsts[first], firsts[number + 1] - firsts[first])
                written = file.write(np.ascontiguousarray(codes[part]).data)
                written += file.write(np.ascontiguousarray(members[part], "<i8").data)
                file.write(b"\0" * int(places[number] * size - written))
    report("writing the search index", rows.count, rows.count)
    write_array(folder / f"slots-{version}.npy", slots)

    stored: Any = faiss.OnDiskInvertedLists(plan.lists, size, lists_file.name)
    list_table(stored)[:] = np.stack([sizes, sizes, starts * size], axis=1)
    stored.totsize = int(places.sum()) * size
    index.replace_invlists(stored, False)
    with synced(folder / f"index-{version}.faiss") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def _windows(places: np.ndarray, most: int) -> Iterable[tuple[int, int]]:
    """Yield ranges of lists that take up at most `most` places together, or single larger lists."""
    first, total = 0, 0
    for number, length in enumerate(places.tolist()):
        if total and total + length > most:
            yield first, number
            first, total = number, 0
        total += length
    yield first, len(places)
