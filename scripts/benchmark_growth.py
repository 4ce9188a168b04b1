"""What a picture costs at each stage, by the size of the library."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import click
from benchmark_library import Workshop, measure_searches, prepare_library, random_model
from benchmark_peers import ASKED, TEXTS, machine
from benchmark_process import apart
from benchmark_report import print_growth, write_page

BYTES_ON_DISK, BYTES_IN_MEMORY = 4500, 1500
"""Of a picture, at most: its empty file, its row and vector in the catalog, the index and the index that replaces it;
and the vector while the index is built."""


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("benchmark-work"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmark-runs"), show_default=True)
@click.option("--docs", type=click.Path(path_type=Path), help="Also write benchmarks.md and its plots in this folder.")
@click.option("--model", metavar="ID", help="[default: a ViT-B-32-256 with random weights]")
@click.option(
    "--largest",
    type=click.IntRange(1000),
    default=10**6,
    show_default=True,
    help="10000000 takes 45 GB, and some hours.",
)
@click.option("--quick", is_flag=True, help="Libraries of 100 and 1000 pictures, to see that all works.")
def growth(work: Path, out: Path, docs: Path | None, model: str | None, largest: int, quick: bool) -> None:
    """Measure libraries of 10^3 pictures and more, up to --largest.

    The files are empty and the vectors generated, so that recording, scanning, publishing and searching are measured,
    not decoding and encoding, whose cost does not depend on the size of the library.
    """
    workshop = Workshop(work.absolute(), model or str(work.absolute() / "model"))
    workshop.folder.mkdir(parents=True, exist_ok=True)
    if not model:
        apart(random_model, Path(workshop.model))
    sizes = (100, 1000) if quick else tuple(10**n for n in range(3, 9) if 10**n <= largest)
    run = {"kind": "growth", "quick": quick, "machine": machine(), "sizes": [], "left_out": []}
    file = out / f"growth-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    out.mkdir(parents=True, exist_ok=True)
    for count in sizes:
        if reason := _obstacle(workshop, count):
            click.echo(f"{count:,} pictures: left out, {reason}", err=True)
            run["left_out"].append(f"{count:,} pictures: {reason}")
            continue
        click.echo(f"{count:,} pictures", err=True)
        run["sizes"].append(measure(workshop, count, repeats=1 if quick else 3))
        add_costs(run["sizes"])
        file.write_text(json.dumps(run, indent=1))
    print_growth(run)
    print(f"kept in {file}")
    if docs:
        write_page(out, docs)


def measure(workshop: Workshop, count: int, repeats: int = 3) -> dict[str, float]:
    """Prepare a library and search it; return what a picture costs at each stage, and what a search does."""
    costs = prepare_library(workshop, count)
    name = workshop.library(count)
    searched = ("--name", name, "--json", "--generate", "never")
    runs = [workshop.clipkit("search", text, *searched) for text in TEXTS[: repeats + 1]][1:]
    return {
        "count": count,
        "record_us": costs["record_us"],
        "scan_s": costs["scan_s"],
        "publish_s": max(0.0, costs["index_s"] - costs["scan_s"]),
        "publish_peak_mb": costs["index_peak_mb"],
        "catalog_bytes": costs["catalog_mb"] * 1e6 / count,
        "vectors_bytes": costs["vectors_mb"] * 1e6 / count,
        "cold_s": median(run.seconds for run in runs),
        "cold_peak_mb": median(run.peak_mb for run in runs),
        **measure_searches(workshop, count, ASKED),
    }


def add_costs(sizes: list[dict[str, float]]) -> None:
    """Add to the last size what scanning and publishing a picture costs, in microseconds: each one that it has more
    than the size before, so that the start of a process, which costs the same for any number, is not counted."""
    last = sizes[-1]
    before = sizes[-2] if len(sizes) > 1 else {"count": 0, "scan_s": 0, "publish_s": 0}
    for stage in ("scan", "publish"):
        seconds = max(0.0, last[f"{stage}_s"] - before[f"{stage}_s"])
        last[f"{stage}_us"] = seconds / (last["count"] - before["count"]) * 1e6


def _obstacle(workshop: Workshop, count: int) -> str:
    """Return why a library of this size cannot be prepared here; empty if it can, or is there."""
    import psutil

    folder = workshop.indexes / workshop.library(count)
    if (folder / "prepared.json").exists():
        return ""
    needed = count * BYTES_ON_DISK - sum(path.stat().st_size for path in folder.rglob("*"))  # it may be half prepared
    free, memory = shutil.disk_usage(workshop.folder).free, psutil.virtual_memory().available
    if free < needed:
        return f"{needed / 1e9:.0f} GB of disk are needed, and {free / 1e9:.0f} GB are free"
    if memory < count * BYTES_IN_MEMORY:
        return f"{count * BYTES_IN_MEMORY / 1e9:.0f} GB of memory are needed, and {memory / 1e9:.0f} GB are free"
    return ""
