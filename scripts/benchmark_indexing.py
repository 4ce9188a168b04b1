"""Measure indexing: how busy each stage is, and the image tower by runtime and batch size."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from benchmark_clipkit import paint_scenes
from benchmark_process import run_process


@click.command()
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
            paint_scenes(photos, images, size)
        reports, figures = [], []
        for run in range(runs + 1):
            command = [sys.executable, "-m", "clipkit", "index", str(photos), "--model", model, "--json"]
            measured = run_process([*command, "--indexes", f"{folder}/run{run}"])
            figures.append((measured.seconds, measured.cpu_seconds, measured.peak_mb))
            reports.append(json.loads(measured.out))
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


@click.command()
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
