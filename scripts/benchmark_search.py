"""Measure a search index of synthetic CLIP vectors: building, cold and warm queries, recall; see `benchmark.py search`.

python scripts/benchmark_search.py build FOLDER VECTORS CLIP LISTS      build an index, print what it took as JSON
python scripts/benchmark_search.py query FOLDER CLIP                    open it and search once, likewise
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_clip import RealVectors, read_vectors, synthetic_images

from clipkit.progress import Progress
from clipkit.vectors.manifest import read_manifest
from clipkit.vectors.nearest import best_of
from clipkit.vectors.plan import EXACT, IndexPlan, plan_for
from clipkit.vectors.publishing import publish
from clipkit.vectors.store import FaissStore

RESULTS = 28
"""What `clipkit search` asks the index for: the candidates of the match decision, and some to spare."""
TUNING = slice(0, 512, 2)
"""Texts for which the number of probes is chosen; the others measure."""


def build(folder: Path, vectors: int, clip: Path, lists: int | None) -> dict[str, Any]:
    """Build an index; lists: instead of those of the plan, 0 for an exact one."""
    real = read_vectors(clip)
    plan = plan_for(vectors) if lists is None else (IndexPlan(lists=lists) if lists else EXACT)
    started = time.perf_counter()
    stages: dict[str, list[float]] = {}

    def report(progress: Progress) -> None:
        stages.setdefault(progress.stage, [time.perf_counter(), 0.0])[1] = time.perf_counter()
        if sys.stderr.isatty():
            print(f"\r{progress.stage}: {progress.done:,} of {progress.total:,}  ", end="", file=sys.stderr)

    manifest = publish(
        folder,
        synthetic_images(real, vectors),
        space="synthetic",
        dimension=real.images.shape[1],
        watermark=vectors,
        revision=0,
        plan=plan,
        queries=real.texts[TUNING],
        progress=report,
    )
    return {
        "index": plan.factory,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "stages": {name: end - start for name, (start, end) in stages.items()},
        "peak_mb": peak_mb(),
        "nprobe": manifest.main.nprobe,
        "recall": manifest.main.recall,
        "megabytes": sum(size for size, _ in manifest.files.values()) / 1e6,
    }


def query(folder: Path, clip: Path) -> dict[str, Any]:
    """Open the index and search for one text."""
    text = read_vectors(clip).texts[1:2]
    import faiss  # noqa: F401  # its import is no part of the search

    started = time.perf_counter()
    store = FaissStore.open(folder)
    opened = time.perf_counter()
    store.search(text, RESULTS)
    searched = time.perf_counter()
    return {"open": opened - started, "search": searched - opened, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return the peak resident memory of this process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def in_a_process(*arguments: object) -> dict[str, Any]:
    """Run this file as a command, so that memory is measured from the start."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def evict(folder: Path) -> None:
    """Drop the files of an index from the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def nearest_by_brute_force(store: FaissStore, queries: np.ndarray, k: int = 10, chunk: int = 16384) -> np.ndarray:
    """Return the ids of the k nearest vectors of the store, int64 (q, k)."""
    scores, ids = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(store), chunk):
        part = np.array(store.ids[start : start + chunk])
        scores = np.concatenate([scores, queries @ store.reconstruct(part).T], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(part, (len(queries), len(part)))], axis=1)
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, ids = np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)
    return best_of(scores, ids, k)[1]


def show_recall(folder: Path, real: RealVectors, queries: int) -> None:
    """Print recall@10 and the time of a query against the number of probes, for texts and for pictures."""
    manifest = read_manifest(folder)
    asked = {"texts": real.texts[1::2][:queries], "pictures": real.images[:queries]}
    expected = {name: nearest_by_brute_force(FaissStore.open(folder), vectors) for name, vectors in asked.items()}
    chosen, lists = manifest.main.nprobe, manifest.main.plan.lists
    print(f"{'nprobe':>8} {'recall@10, texts':>18} {'pictures':>10} {'ms a text':>10}")
    for nprobe in sorted({chosen, *(p for p in (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096) if p <= lists)}):
        store = FaissStore(folder, replace(manifest, main=replace(manifest.main, nprobe=nprobe)))
        recalls, times = [], []
        for name, vectors in asked.items():
            found = []
            for vector in vectors:
                started = time.perf_counter()
                found.append(store.search(vector[None], 10)[1][0])
                if name == "texts":
                    times.append(time.perf_counter() - started)
            same = [len(np.intersect1d(a, b)) for a, b in zip(found, expected[name], strict=True)]
            recalls.append(np.mean(same) / 10)
        mark = "  chosen" if nprobe == chosen else ""
        print(f"{nprobe:8,} {recalls[0]:18.4f} {recalls[1]:10.4f} {1000 * np.median(times):10.1f}{mark}")


def show(folder: Path, vectors: int, clip: Path, lists: int | None, queries: int, runs: int) -> None:
    """Build an index below the folder, unless it is there, and print all measurements."""
    real = read_vectors(clip)
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        built = in_a_process("build", folder, vectors, clip, "" if lists is None else lists)
        print(
            f"building {vectors:,} x {real.images.shape[1]} as {built['index']}: {built['seconds']:.0f} s, CPU time "
            f"{built['cpu_seconds']:.0f} s (with making the vectors), peak memory {built['peak_mb']:.0f} MB, "
            f"{built['megabytes']:.0f} MB on disk"
        )
        for stage, seconds in built["stages"].items():
            print(f"  {stage}: {seconds:.0f} s")
        if built["nprobe"]:
            print(f"  nprobe {built['nprobe']}, recall@10 {built['recall']:.4f} of the texts it was chosen for")
    for name in ("page cache warm", "page cache evicted"):
        figures = []
        for run in range(runs + 1):
            if "evicted" in name:
                evict(folder)
            figure = in_a_process("query", folder, clip)
            if run or "evicted" in name:
                figures.append([1000 * figure["open"], 1000 * figure["search"], figure["peak_mb"]])
        opened, searched, peak = np.median(figures, axis=0)
        worst = max(figure[0] + figure[1] for figure in figures)
        print(
            f"first query of a process, {name}: opening {opened:.0f} ms, searching {searched:.0f} ms (together at most "
            f"{worst:.0f} ms), peak memory {peak:.0f} MB"
        )
    store, rng = FaissStore.open(folder), np.random.default_rng(0)
    for name, share in (("all", None), ("half", 0.5), ("a tenth", 0.1), ("a hundredth", 0.01)):
        allowed = None if share is None else rng.random(len(store)) < share
        times = []
        for vector in real.texts[1::2][:20]:
            started = time.perf_counter()
            store.search(vector[None], RESULTS, allowed)
            times.append(1000 * (time.perf_counter() - started))
        print(f"one query among {name}: median {np.median(times):.1f} ms")
    if read_manifest(folder).main.plan.lists:
        show_recall(folder, real, queries)


if __name__ == "__main__":
    command, folder_, *rest = sys.argv[1:]
    if command == "build":
        chosen_lists = int(rest[2]) if rest[2] else None
        print(json.dumps(build(Path(folder_), int(rest[0]), Path(rest[1]), chosen_lists)))
    else:
        print(json.dumps(query(Path(folder_), Path(rest[0]))))
