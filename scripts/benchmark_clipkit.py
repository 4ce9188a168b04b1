"""Measure clipkit alone: memory while indexing, a published index, and its two runtimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

import click
import numpy as np
from benchmark_process import run_process

CLIP = Path(__file__).parents[2] / "shared/real_clip/development.npz"


@click.command()
@click.option("--images", default=20_000, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
def memory(images: int, batch_size: int) -> None:
    """Measure memory use while indexing.

    Prints the resident memory of the indexer and of its workers by the number of images indexed.
    """
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        paint_scenes(Path(folder) / "photos", images, 64)
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


@click.command()
@click.option("--vectors", default=100_000, show_default=True)
@click.option("--clip", default=CLIP, type=click.Path(path_type=Path), help="Real CLIP vectors to draw others like.")
@click.option("--lists", type=int, help="Inverted lists; 0 for an exact index; by default what clipkit would choose.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the index here, and measure it if it is there.")
@click.option("--queries", default=200, show_default=True, help="Texts and pictures for the recall.")
@click.option("--runs", default=5, show_default=True, help="Processes per state of the page cache.")
def search(vectors: int, clip: Path, lists: int | None, folder: Path | None, queries: int, runs: int) -> None:
    """Measure building and searching an index of vectors like those of a real model.

    Prints build time and peak memory, first queries with a warm and an evicted page cache, queries with filters, and
    the recall against the number of probes.
    """
    from benchmark_search import show

    with tempfile.TemporaryDirectory() as temporary:
        show(folder or Path(temporary), vectors, clip, lists, queries, runs)


IN_TORCH = """
from clipkit.models import loading
loading._open_onnx = loading._export = lambda *_, **__: None
from clipkit.cli.main import run
run()
"""


@click.command()
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
        paint_scenes(Path(folder) / "photos", images, 128)
        with Library.create(Path(folder) / "indexes" / "default", model) as library:
            library.index([Path(folder) / "photos"])
        arguments = ["search", "a dog on the beach", "--indexes", f"{folder}/indexes", "--json"]
        ways = {"ONNX Runtime": ["-m", "clipkit"], "torch": ["-c", IN_TORCH]}
        figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for run in range(runs + 1):
            for name, start in ways.items():
                done = run_process([sys.executable, *start, *arguments])
                figure = done.seconds, done.cpu_seconds, done.peak_mb
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


def paint_scenes(folder: Path, count: int, size: int) -> None:
    """Write scenes of the sample world as JPEG files, a thousand to a folder."""
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
