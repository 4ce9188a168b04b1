"""The published vectors of a space: a FAISS index in a memory-mapped file that is replaced whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
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
        import faiss

        manifest = read_manifest(folder)
        for name, (size, _) in manifest.files.items():
            try:
                actual = (folder / name).stat().st_size
            except OSError:
                actual = -1
            if actual != size:
                raise LibraryDamaged(f"{folder / name} is missing or cut off; run `clipkit check --repair`")
        index_file, ids_file = sorted(manifest.files)  # "index-..." sorts after "ids-..."
        index_file, ids_file = ids_file, index_file
        try:
            index = faiss.read_index(str(folder / index_file), faiss.IO_FLAG_MMAP_IFC)
            ids = np.load(folder / ids_file, mmap_mode="r", allow_pickle=False)
        except (RuntimeError, ValueError, OSError) as error:
            raise LibraryDamaged(f"the index in {folder} cannot be read; run `clipkit check --repair`") from error
        if index.ntotal != manifest.count or len(ids) != manifest.count or index.d != manifest.dimension:
            raise LibraryDamaged(f"the index in {folder} is not what its manifest says; run `clipkit check --repair`")
        return cls(index, ids, manifest)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        if not len(self) or k < 1:
            return empty_results(len(queries), max(k, 0))
        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is None:
            scores, positions = self._index.search(queries, min(k, len(self)))
        else:
            rows = np.flatnonzero(allowed)
            if len(rows) <= max(k, GATHER_SHARE * len(self)):
                if not len(rows):
                    return empty_results(len(queries), k)
                return best_of(queries @ self._index.reconstruct_batch(rows).T, self.ids[rows], k)
            bits = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(bits))
            parameters = faiss.SearchParameters(sel=selector)
            scores, positions = self._index.search(queries, min(k, len(rows)), params=parameters)
        return best_of(scores, np.where(positions >= 0, self.ids[positions], -1), k)

    def reconstruct(self, ids: np.ndarray) -> np.ndarray:
        """Vectors float32 (n, d) of ids that the store holds, in that order; raises KeyError for others."""
        positions = np.minimum(np.searchsorted(self.ids, ids), max(len(self) - 1, 0))
        if not len(self) or not np.array_equal(self.ids[positions], ids):
            raise KeyError("no such id in the store")
        return self._index.reconstruct_batch(np.ascontiguousarray(positions))


def read_manifest(folder: Path) -> Manifest:
    """What was published in a folder. Raises FileNotFoundError, or LibraryDamaged if it makes no sense."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text("utf-8")))
        if manifest.format != FORMAT or len(manifest.files) != 2:
            raise ValueError
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
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
    names, and the manifest that names them is replaced last. Files that no manifest names are swept.
    """
    import faiss

    folder.mkdir(parents=True, exist_ok=True)
    index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    ids: list[np.ndarray] = []
    for chunk_ids, vectors in chunks:
        index.add(np.ascontiguousarray(vectors, np.float32))
        ids.append(chunk_ids)
    version = _next_version(folder)
    index_file, ids_file = folder / f"index-{version}.faiss", folder / f"ids-{version}.npy"
    faiss.write_index(index, str(index_file))
    np.save(ids_file, np.concatenate(ids) if ids else np.zeros(0, np.int64))
    files = {}
    for path in (index_file, ids_file):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        files[path.name] = path.stat().st_size, checksum(path)
    manifest = Manifest(space, dimension, index.ntotal, watermark, revision, files)
    unfinished = folder / f"{MANIFEST}.new"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, folder / MANIFEST)
    _fsync_folder(folder)
    for path in (*folder.glob("index-*.faiss"), *folder.glob("ids-*.npy")):
        if path.name not in files:
            with contextlib.suppress(OSError):  # Windows keeps a file that a reader has mapped; the next publish sweeps
                path.unlink()
    return manifest


def damage(folder: Path) -> str:
    """Reads all of a published store and says what is wrong with it; empty if nothing is."""
    try:
        manifest = read_manifest(folder)
        FaissStore.open(folder)
        for name, (_, expected) in manifest.files.items():
            if checksum(folder / name) != expected:
                return f"{folder / name} does not have the checksum it was written with"
    except FileNotFoundError:
        return f"{folder} has no published index"
    except LibraryDamaged as error:
        return str(error).split(";")[0]
    return ""


def checksum(path: Path) -> str:
    """xxh3-128 of a file, in hex."""
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
