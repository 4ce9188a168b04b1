"""Measure clipkit's speed and memory use on this machine.

    python scripts/benchmark.py memory [--images 20000]     resident memory while indexing
    python scripts/benchmark.py index [--images 2000]       indexing rate of JPEG files, and what each stage took
    python scripts/benchmark.py encoders --model ID         the image tower in ONNX Runtime and in torch, by batch size
    python scripts/benchmark.py search [--vectors 100000]   opening and searching a published index, 512 dimensions
    python scripts/benchmark.py cold [--model ID]           a whole `clipkit search` process, and the image tower, in
                                                            ONNX Runtime and in torch

Each prints a table. Images and vectors are generated from fixed seeds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import numpy as np


@click.group()
def main() -> None:
    """Measure clipkit."""


@main.command()
@click.option("--images", default=20_000, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
def memory(images: int, batch_size: int) -> None:
    """Measure memory use while indexing.

    Prints the resident memory of the indexer and of its workers by the number of images indexed.
    """
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        _paint(Path(folder) / "photos", images, 64)
        command = [sys.executable, "-m", "clipkit", "index", f"{folder}/photos", "--model", "tiny"]
        command += ["--indexes", f"{folder}/indexes"]
        process = psutil.Popen([*command, "--json", "--batch-size", str(batch_size)], stdout=subprocess.PIPE)
        samples: list[tuple[float, int, int, int]] = []
        started = time.monotonic()
        done = threading.Event()

        def watch() -> None:
            while not done.wait(1.0):
                try:
                    children = sum(child.memory_info().rss for child in process.children(recursive=True))
                    samples.append((time.monotonic() - started, _count(folder), process.memory_info().rss, children))
                except psutil.Error:
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, _ = process.communicate()
        done.set()
        watcher.join()
    report = json.loads(out)
    print(f"{report['images']:,} images in {report['seconds']:.0f} s, {report['failed']} failed")
    print(f"{'images':>9} {'seconds':>8} {'indexer MB':>11} {'workers MB':>12}")
    marks = iter(range(0, images + 1, max(1, images // 10)))
    mark = next(marks)
    for seconds, count, own, children in samples:
        if count >= mark:
            print(f"{count:9,} {seconds:8.0f} {own / 1e6:11.0f} {children / 1e6:12.0f}")
            mark = next((m for m in marks if m > count), images + 1)
    last = samples[-1]
    print(f"{last[1]:9,} {last[0]:8.0f} {last[2] / 1e6:11.0f} {last[3] / 1e6:12.0f}")


@main.command()
@click.option("--images", default=2000, show_default=True)
@click.option("--size", default=300, show_default=True, help="Side of the JPEG files in pixels.")
@click.option("--model", default="tiny", show_default=True)
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Index these instead.")
@click.option("--runs", default=3, show_default=True)
def index(images: int, size: int, model: str, photos: Path | None, runs: int) -> None:
    """Measure the indexing rate, and how busy each stage is.

    Counts whole `clipkit index` processes, from JPEG files to a published index; the first one, which may prepare the
    model, is shown apart.
    """
    from clipkit.cores import available_cores
    from clipkit.indexing.timings import STAGES

    with tempfile.TemporaryDirectory() as folder:
        if photos is None:
            photos = Path(folder) / "photos"
            _paint(photos, images, size)
        reports, figures = [], []
        for run in range(runs + 1):
            out = Path(folder) / "report.json"
            command = [sys.executable, "-m", "clipkit", "index", str(photos), "--model", model, "--json"]
            figures.append(_process([*command, "--indexes", f"{folder}/run{run}"], out))
            reports.append(json.loads(out.read_text("utf-8")))
    for name, chosen in (("first run", slice(0, 1)), (f"median of {runs} more", slice(1, None))):
        seconds, cpu_seconds, megabytes = np.median(figures[chosen], axis=0)
        count = reports[0]["embedded"]
        print(f"{name}: {count} pictures in {seconds:.2f} s ({count / seconds:.1f}/s), ", end="")
        print(f"CPU time {cpu_seconds:.2f} s, peak memory {megabytes:.0f} MB")
        within = np.median([report["seconds"] for report in reports[chosen]])
        print(f"  {'start':8} {seconds - within:8.2f} s {100 * (1 - within / seconds):5.1f}% of the time")
        for stage in STAGES:
            busy = np.median([report["timings_ms"][stage] for report in reports[chosen]]) / 1000
            spread = available_cores() if stage == "decode" else 2 if stage == "hash" else 1
            beside = f" of {spread} beside the others" if stage in ("decode", "hash") else ""
            print(f"  {stage:8} {busy:8.2f} s {100 * busy / seconds / spread:5.1f}% of the time{beside}")


@main.command()
@click.option("--model", default="tiny", show_default=True)
@click.option("--batches", default="1,4,8,16,32", show_default=True)
@click.option("--rounds", default=5, show_default=True)
def encoders(model: str, batches: str, rounds: int) -> None:
    """Measure the image tower in ONNX Runtime and in torch, by batch size.

    Prints CPU milliseconds per picture, the best of interleaved rounds; they depend less on what else runs than wall
    time does. Set $OMP_NUM_THREADS to choose the number of threads.
    """
    from clipkit.models.loading import load_encoder, load_torch_encoder
    from clipkit.models.reference import ModelRef

    ref = ModelRef.resolve(model)
    towers = {"ONNX Runtime": load_encoder(ref, search=True), "torch": load_torch_encoder(ref.id, "cpu")}
    sizes = [int(size) for size in batches.split(",")]
    side = towers["torch"].preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (max(sizes), side, side, 3), np.uint8)
    best: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for name, tower in towers.items():
            for size in sizes:
                tower._image_batches.largest = size
                started = time.process_time()
                tower.encode_images(pixels[:size])
                spent = 1000 * (time.process_time() - started) / size
                best[name, size] = min(spent, best.get((name, size), spent))
    print(f"{model}, CPU milliseconds per picture:")
    print(f"{'batch':14}" + "".join(f"{size:8}" for size in sizes))
    for name in towers:
        print(f"{name:14}" + "".join(f"{best[name, size]:8.1f}" for size in sizes))


@main.command()
@click.option("--vectors", default=100_000, show_default=True)
@click.option("--dimension", default=512, show_default=True)
@click.option("--queries", default=20, show_default=True)
def search(vectors: int, dimension: int, queries: int) -> None:
    """Measure opening an index and single queries.

    Queries run on all threads, with and without filters.
    """
    import faiss
    import psutil

    from clipkit.vectors.publishing import publish
    from clipkit.vectors.store import FaissStore

    rng = np.random.default_rng(0)

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, vectors, 4096):
            count = min(4096, vectors - start)
            chunk = rng.standard_normal((count, dimension), np.float32)
            yield np.arange(start + 1, start + count + 1), chunk / np.linalg.norm(chunk, axis=1, keepdims=True)

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        publish(Path(folder), chunks(), space="random", dimension=dimension, watermark=vectors, revision=0)
        seconds = time.perf_counter() - started
        print(f"publishing {vectors:,} x {dimension}: {seconds:.2f} s (including generating the vectors)")
        before = psutil.Process().memory_info().rss
        started = time.perf_counter()
        store = FaissStore.open(Path(folder))
        opened = (time.perf_counter() - started) * 1000
        print(f"opening: {opened:.1f} ms, {(psutil.Process().memory_info().rss - before) / 1e6:+.0f} MB resident")
        query_vectors = rng.standard_normal((queries, 1, dimension)).astype("f4")
        for name, share in (("all", None), ("half", 0.5), ("a tenth", 0.1), ("a hundredth", 0.01)):
            allowed = None if share is None else rng.random(vectors) < share
            store.search(query_vectors[0], 10, allowed)
            times = []
            for query in query_vectors:
                started = time.perf_counter()
                store.search(query, 10, allowed)
                times.append((time.perf_counter() - started) * 1000)
            print(f"one query, {name:12} median {np.median(times):7.2f} ms, {faiss.omp_get_max_threads()} threads")


IN_TORCH = """
from clipkit.models import loading
loading._open_onnx = loading._export = lambda *_, **__: None
from clipkit.cli.main import run
run()
"""


@main.command()
@click.option("--model", default="tiny", show_default=True)
@click.option("--images", default=400, show_default=True, help="Number of images in the library.")
@click.option("--runs", default=7, show_default=True)
def cold(model: str, images: int, runs: int) -> None:
    """Compare ONNX Runtime with torch.

    Measures a text search as a whole process, and the throughput of the image tower.
    """
    from clipkit import Library
    from clipkit.models.loading import load_encoder, load_torch_encoder
    from clipkit.models.onnx.export import measure
    from clipkit.models.reference import ModelRef

    with tempfile.TemporaryDirectory() as folder:
        _paint(Path(folder) / "photos", images, 128)
        with Library.create(Path(folder) / "indexes" / "default", model) as library:
            library.index([Path(folder) / "photos"])
        arguments = ["search", "a dog on the beach", "--indexes", f"{folder}/indexes", "--json"]
        ways = {"ONNX Runtime": ["-m", "clipkit"], "torch": ["-c", IN_TORCH]}
        figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for run in range(runs + 1):
            for name, start in ways.items():
                figure = _process([sys.executable, *start, *arguments])
                if run:  # the first run warms the file cache
                    figures[name].append(figure)
    print(f"`clipkit search` of {images} images with {model}, median of {runs} interleaved runs:")
    for name, values in figures.items():
        seconds, cpu_seconds, megabytes = np.median(values, axis=0)
        print(f"  {name:13} {seconds:6.2f} s, CPU time {cpu_seconds:6.2f} s, peak memory {megabytes:5.0f} MB")
    ref = ModelRef.resolve(model)
    rates = measure(load_torch_encoder(ref.id, "cpu"), load_encoder(ref, search=True), rounds=20, seconds=60)
    print(
        f"image tower on the CPU, best of interleaved runs: ONNX Runtime {rates[1]:.1f}, torch {rates[0]:.1f} images/s"
    )


def _process(command: list[str], out: Path | None = None) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak resident megabytes of a command; write its output to `out`.

    CPU seconds include those of its child processes that it waited for. They are the more reliable figure on a shared
    machine.
    """
    started = time.perf_counter()
    with open(out or os.devnull, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        errors = process.stderr.read()
        process.stderr.close()
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise click.ClickException(errors)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _paint(folder: Path, count: int, size: int) -> None:
    from clipkit.samples.painting import paint
    from clipkit.samples.world import scenes

    for i, scene in enumerate(islice(scenes(2_718_281), count)):
        path = folder / f"{i // 1000:03}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        paint(scene, size).save(path, quality=85)


def _count(folder: str) -> int:
    """Return the number of images in the catalog so far."""
    import sqlite3

    catalog = f"{folder}/indexes/default/catalog.db"
    if not os.path.exists(catalog):
        return 0
    try:
        with sqlite3.connect(f"file:{catalog}?mode=ro", uri=True) as db:
            return db.execute("SELECT COUNT(*) FROM images").fetchone()[0]
    except sqlite3.Error:
        return 0


if __name__ == "__main__":
    main()
