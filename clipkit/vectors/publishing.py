"""Publish a space's vectors atomically, and check that a published store is intact."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clipkit.atomic import atomic_write, clear_unfinished
from clipkit.errors import LibraryDamaged
from clipkit.progress import ProgressCallback
from clipkit.vectors.exact import write_exact
from clipkit.vectors.manifest import (
    MANIFEST,
    Files,
    Manifest,
    Segment,
    checksum,
    head_digest,
    manifest_text,
    read_manifest,
)
from clipkit.vectors.plan import EXACT, IndexPlan
from clipkit.vectors.segment_files import write_array
from clipkit.vectors.store import FaissStore

KINDS = {"index": ".faiss", "ids": ".npy", "lists": ".bin", "slots": ".npy", "removed": ".npy"}
"""The files of a store, and their extensions; the version stands between."""
SPOOL = ".spool.clipkit-new"

Chunks = Iterable[tuple[np.ndarray, np.ndarray]]
"""Ids int64 (m,) and unit vectors float32 (m, d)."""


def publish(
    folder: Path,
    chunks: Chunks,
    *,
    space: str,
    dimension: int,
    watermark: int,
    revision: int,
    plan: IndexPlan = EXACT,
    queries: np.ndarray | None = None,
    progress: ProgressCallback | None = None,
) -> Manifest:
    """Write a store from chunks in ascending order of their ids, and publish it.

    queries: (q, d) float32, unit vectors of held-out texts; a plan with lists needs them.

    Readers see the old store or the new one, even if the process is killed: new files get new names, and the manifest
    that lists them is replaced last. Files that no manifest lists are deleted. Raises OSError if the disk is full; the
    old store then stays in place. Inverted lists need room for the vectors twice while they are written.
    """
    with _replacing(folder):
        main = _write_segment(folder, chunks, dimension, plan, queries, progress)
        manifest = Manifest(space, dimension, watermark, revision, main)
        _replace_manifest(folder, manifest)
    return manifest


def publish_changes(
    folder: Path, added: Sequence[tuple[np.ndarray, np.ndarray]], removed: np.ndarray, *, watermark: int, revision: int
) -> Manifest:
    """Add vectors to the tail of the published store, and replace the list of vectors that searches skip.

    added: like the chunks of `publish`, in any order; none of the ids is in the store.
    removed: int64 (m,), ids of vectors in the store.
    """
    with _replacing(folder):
        store = FaissStore.open(folder)
        manifest = store.manifest
        tail = manifest.tail
        if sum(len(ids) for ids, _ in added):
            tail = _write_segment(folder, [*store.tail_chunks(), *added], manifest.dimension, EXACT, None, None)
        files: Files = {}
        if len(removed):
            path = folder / f"removed-{_next_version(folder)}.npy"
            write_array(path, np.asarray(removed, np.int64))
            files = _listed([path])
        manifest = replace(
            manifest, watermark=watermark, revision=revision, tail=tail, removed=len(removed), removed_files=files
        )
        _replace_manifest(folder, manifest)
    return manifest


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[None]:
    """Delete the files that the manifest does not list: before, after, and if the block raises."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)  # first: leftovers of a killed run may be what fills the disk
    try:
        yield
    finally:
        _sweep(folder)


def _write_segment(
    folder: Path,
    chunks: Chunks,
    dimension: int,
    plan: IndexPlan,
    queries: np.ndarray | None,
    progress: ProgressCallback | None,
) -> Segment:
    version = _next_version(folder)
    names = {kind: folder / f"{kind}-{version}{extension}" for kind, extension in KINDS.items()}
    ids: list[np.ndarray] = []

    def vectors() -> Iterator[np.ndarray]:
        for chunk_ids, chunk in chunks:
            ids.append(chunk_ids)
            yield chunk

    if plan.lists:
        from clipkit.vectors.ivf_building import Spool, write_ivf

        if queries is None or not len(queries):
            raise ValueError("inverted lists need queries, to choose how many of them a search probes")
        spool = Spool(folder / SPOOL, dimension)
        spool.fill(vectors())
        tuning = write_ivf(folder, version, spool, plan, queries, progress)
        spool.path.unlink()
        nprobe, recall, count, after = tuning.nprobe, tuning.recall, spool.count, 0
        written = ["index", "ids", "lists", "slots"]
    else:
        count = write_exact(names["index"], vectors(), dimension)
        nprobe, recall, after = 0, 1.0, 2 * count * dimension
        written = ["index", "ids"]
    write_array(names["ids"], np.concatenate(ids) if ids else np.zeros(0, np.int64))
    files = _listed([names[kind] for kind in written])
    return Segment(count, files, head_digest(names["index"], after), plan, nprobe, recall)


def _listed(paths: Iterable[Path]) -> Files:
    return {path.name: (path.stat().st_size, checksum(path)) for path in paths}


def _replace_manifest(folder: Path, manifest: Manifest) -> None:
    with atomic_write(folder / MANIFEST) as file:
        file.write(manifest_text(manifest).encode())


def _sweep(folder: Path) -> None:
    """Delete the files of stores that are not published."""
    try:
        kept = tuple(read_manifest(folder).files)
    except (FileNotFoundError, LibraryDamaged):
        kept = ()
    clear_unfinished(folder, 0)
    for path in _segment_files(folder):
        if path.name not in kept:
            with contextlib.suppress(OSError):  # Windows cannot delete a mapped file; the next publish retries
                path.unlink(missing_ok=True)


def _segment_files(folder: Path) -> list[Path]:
    return [path for kind, extension in KINDS.items() for path in folder.glob(f"{kind}-*{extension}")]


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
    versions = [path.stem.rpartition("-")[2] for path in _segment_files(folder)]
    return 1 + max((int(v) for v in versions if v.isdigit()), default=0)
