"""The plots of the benchmarks: latency, memory and build time against the size of the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

Line = tuple[str, Sequence[float], Sequence[float]]
"""A label, the numbers of pictures, the values."""


def write_plots(folder: Path, peers: dict | None, growth: dict | None) -> dict[str, str]:
    """Write the plots that there are figures for; return the title of each by its file's name. Needs matplotlib."""
    try:
        import matplotlib
    except ImportError:
        click.echo("no plots: pip install matplotlib", err=True)
        return {}
    matplotlib.use("Agg")
    sizes = growth["sizes"] if growth else []
    counts = [size["count"] for size in sizes]

    def of(key: str, factor: float = 1.0) -> list[float]:
        return [size[key] * factor for size in sizes]

    searched = [row for row in (peers["rows"] if peers else []) if "rclip" in row and row["name"].startswith("cold-")]
    beside = [row["count"] for row in searched]
    plots: dict[str, tuple[str, str, list[Line]]] = {
        "latency.png": (
            "Seconds of a search",
            "seconds",
            [
                ("clipkit, whole process", counts, of("cold_s")),
                ("clipkit, in an open library", counts, of("search_ms", 1e-3)),
                ("nearest neighbours alone", counts, of("text_nearest_ms", 1e-3)),
                ("rclip, whole process", beside, [row["rclip"]["seconds"] for row in searched]),
            ],
        ),
        "memory.png": (
            "Largest resident memory",
            "MB",
            [
                ("clipkit, one search", counts, of("cold_peak_mb")),
                ("clipkit, publishing the index", counts, of("publish_peak_mb")),
                ("rclip, one search", beside, [row["rclip"]["peak_mb"] for row in searched]),
            ],
        ),
        "build.png": ("Seconds to publish the index", "seconds", [("clipkit", counts, of("publish_s"))]),
        "cost.png": (
            "Cost of one picture",
            "microseconds",
            [(name, counts, of(f"{name}_us")) for name in ("record", "scan", "publish")],
        ),
    }
    written = {}
    for name, (title, unit, lines) in plots.items():
        if lines := [line for line in lines if line[1]]:
            _plot(folder / name, title, unit, lines)
            written[name] = title
    return written


def _plot(path: Path, title: str, unit: str, lines: Sequence[Line]) -> None:
    from matplotlib import pyplot

    figure: Any
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), dpi=110, layout="constrained")
    for label, counts, values in lines:
        axes.plot(counts, values, marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="pictures in the library", ylabel=unit, title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path)
    pyplot.close(figure)
