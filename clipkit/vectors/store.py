"""The published vectors of a space: a FAISS index in a memory-mapped file that is replaced whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from clipkit.errors import LibraryDamaged

FORMAT = 1
MANIFEST = "manifest.json"
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


@dataclass(frozen=True)
class Manifest:
    """What a published store holds. `watermark` is the largest embedding id of the space when it was written,
    `revision` the space's revision then; `files` are name -> [bytes, xxh3-128 in hex]."""

    space: str
    dimension: int
    count: int
    watermark: int
    revision: int
    files: dict[str, tuple[int, str]]
    format: int = FORMAT


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


def _is_exact(index, count: int, dimension: int) -> bool:
    """Whether it is what `exact_index` makes, of that size: a bit flipped in the file's head may crash FAISS later."""
    import faiss

    return (
        isinstance(index, faiss.IndexScalarQuantizer)
        and (index.ntotal, index.d, index.sq.d) == (count, dimension, dimension)
        and (index.sq.qtype, index.metric_type) == (faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        and index.code_size == index.sq.code_size == 2 * dimension
        and index.codes.size() == 2 * dimension * count
    )


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
        try:
            index = faiss.read_index(str(folder / index_file), faiss.IO_FLAG_MMAP_IFC)
            ids = np.load(folder / ids_file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # what a flipped bit makes FAISS and NumPy raise has no common base
            raise LibraryDamaged(f"the index in {folder} cannot be read; run `clipkit check --repair`") from error
        count, dimension = manifest.count, manifest.dimension
        if not (_is_exact(index, count, dimension) and ids.dtype == np.int64 and ids.shape == (count,)):
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


def read_manifest(folder: Path) -> Manifest:
    """What was published in a folder. Raises FileNotFoundError, or LibraryDamaged if it makes no sense."""
    try:
        written = json.loads((folder / MANIFEST).read_text("utf-8"))
        if written["checksum"] != _digest(written["manifest"]):
            raise ValueError("the checksum is another")
        manifest = Manifest(**written["manifest"])
        if manifest.format != FORMAT:
            raise ValueError("the format is another")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise LibraryDamaged(f"{folder / MANIFEST} is torn; run `clipkit check --repair`") from error
    return manifest


def publish(
    folder: Path,
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    space: str,
    dimension: int,
    watermark: int,
    revision: int,
) -> Manifest:
    """Writes a store from chunks of rising ids int64 (m,) and unit vectors float32 (m, d), and puts it in place.

    Readers see the old store or the new one, never a mixture, wherever the process is killed: new files have new
    names, and the manifest that names them is replaced last. Files that no manifest names are swept. Raises OSError
    where the disk is full: the old store stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        kept = tuple(read_manifest(folder).files)
    except (FileNotFoundError, LibraryDamaged):
        kept = ()
    _sweep(folder, kept)  # first, for what a killed run left may be what fills the disk
    try:
        manifest = _write(folder, chunks, space=space, dimension=dimension, watermark=watermark, revision=revision)
    except BaseException:
        _sweep(folder, kept)
        raise
    _sweep(folder, tuple(manifest.files))
    return manifest


def _write(
    folder: Path,
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    space: str,
    dimension: int,
    watermark: int,
    revision: int,
) -> Manifest:
    import faiss

    index = exact_index(np.zeros((0, dimension), np.float32))
    ids: list[np.ndarray] = []
    for chunk_ids, vectors in chunks:
        index.add(np.ascontiguousarray(vectors, np.float32))
        ids.append(chunk_ids)
    version = _next_version(folder)
    index_file, ids_file = folder / f"index-{version}.faiss", folder / f"ids-{version}.npy"
    with index_file.open("wb") as file:  # FAISS's own writer does not notice when its last block finds no room
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        file.flush()
        os.fsync(file.fileno())
    with ids_file.open("wb") as file:
        np.save(file, np.concatenate(ids) if ids else np.zeros(0, np.int64))
        file.flush()
        os.fsync(file.fileno())
    files = {path.name: (path.stat().st_size, checksum(path)) for path in (index_file, ids_file)}
    manifest = Manifest(space, dimension, index.ntotal, watermark, revision, files)
    unfinished = folder / f"{MANIFEST}.new"
    with unfinished.open("w", encoding="utf-8") as text:
        json.dump({"manifest": asdict(manifest), "checksum": _digest(asdict(manifest))}, text)
        text.flush()
        os.fsync(text.fileno())
    os.replace(unfinished, folder / MANIFEST)
    _fsync_folder(folder)
    return manifest


def _sweep(folder: Path, kept: Sequence[str]) -> None:
    """Deletes the files of stores that are no longer, or never were, published."""
    for path in (*folder.glob("index-*.faiss"), *folder.glob("ids-*.npy"), folder / f"{MANIFEST}.new"):
        if path.name not in kept:
            with contextlib.suppress(OSError):  # Windows keeps a file that a reader has mapped; the next publish sweeps
                path.unlink(missing_ok=True)


def damage(folder: Path) -> str:
    """Reads all of a published store and says what is wrong with it; empty if nothing is."""
    try:
        while True:
            manifest = FaissStore.open(folder).manifest
            torn = _torn_file(folder, manifest)
            if not torn:
                return ""
            if manifest == read_manifest(folder):  # else another process has published meanwhile
                return f"{folder / torn} does not have the checksum it was written with"
    except FileNotFoundError:
        return f"{folder} has no published index"
    except LibraryDamaged as error:
        return str(error).split("; run ")[0]


def _torn_file(folder: Path, manifest: Manifest) -> str:
    for name, (_, expected) in manifest.files.items():
        try:
            actual = checksum(folder / name)
        except OSError:
            actual = "unreadable"
        if actual != expected:
            return name
    return ""


def checksum(path: Path) -> str:
    """xxh3-128 of a file, in hex."""
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest(manifest: dict) -> str:
    """xxh3-128 of a manifest, in hex: a wrong watermark would hide vectors, and no other file would tell."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())


def _next_version(folder: Path) -> int:
    versions = [p.stem.rpartition("-")[2] for p in (*folder.glob("index-*.faiss"), *folder.glob("ids-*.npy"))]
    return 1 + max((int(v) for v in versions if v.isdigit()), default=0)


def _fsync_folder(folder: Path) -> None:
    """Makes the rename durable, where folders can be synced (not on Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
