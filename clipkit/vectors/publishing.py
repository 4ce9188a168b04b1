"""Publish a space's vectors atomically, and check that a published store is intact."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from clipkit.atomic import atomic_write, clear_unfinished
from clipkit.errors import LibraryDamaged
from clipkit.vectors.manifest import MANIFEST, Manifest, checksum, head_digest, manifest_text, read_manifest
from clipkit.vectors.store import FaissStore, exact_index


def publish(
    folder: Path,
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    space: str,
    dimension: int,
    watermark: int,
    revision: int,
) -> Manifest:
    """Write a store from chunks of ascending ids int64 (m,) and unit vectors float32 (m, d), and publish it.

    Readers see the old store or the new one, even if the process is killed: new files get new names, and the manifest
    that lists them is replaced last. Files that no manifest lists are deleted. Raises OSError if the disk is full; the
    old store then stays in place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        kept = tuple(read_manifest(folder).files)
    except (FileNotFoundError, LibraryDamaged):
        kept = ()
    _sweep(folder, kept)  # first: leftovers of a killed run may be what fills the disk
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
    with index_file.open("wb") as file:  # FAISS's own writer ignores a full disk at its last block
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        file.flush()
        os.fsync(file.fileno())
    with ids_file.open("wb") as file:
        np.save(file, np.concatenate(ids) if ids else np.zeros(0, np.int64))
        file.flush()
        os.fsync(file.fileno())
    files = {path.name: (path.stat().st_size, checksum(path)) for path in (index_file, ids_file)}
    head = head_digest(index_file, index.ntotal, dimension)
    manifest = Manifest(space, dimension, index.ntotal, watermark, revision, files, head)
    with atomic_write(folder / MANIFEST) as file:
        file.write(manifest_text(manifest).encode())
    return manifest


def _sweep(folder: Path, kept: Sequence[str]) -> None:
    """Delete the files of stores that are not published."""
    clear_unfinished(folder, 0)
    for path in (*folder.glob("index-*.faiss"), *folder.glob("ids-*.npy")):
        if path.name not in kept:
            with contextlib.suppress(OSError):  # Windows cannot delete a mapped file; the next publish retries
                path.unlink(missing_ok=True)


def find_damage(folder: Path) -> str:
    """Read a published store completely and return what is wrong with it; empty if it is intact."""
    try:
        while True:
            manifest = FaissStore.open(folder).manifest
            torn = _torn_file(folder, manifest)
            if not torn:
                return ""
            if manifest == read_manifest(folder):  # otherwise another process has published since
                return f"{folder / torn} does not match its checksum"
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


def _next_version(folder: Path) -> int:
    versions = [p.stem.rpartition("-")[2] for p in (*folder.glob("index-*.faiss"), *folder.glob("ids-*.npy"))]
    return 1 + max((int(v) for v in versions if v.isdigit()), default=0)
