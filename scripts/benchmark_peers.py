"""clipkit beside rclip: the same model, vectors and files, whole processes, in turn."""

from __future__ import annotations

import compileall
import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import benchmark_rclip as rclip
import click
from benchmark_library import Workshop, measure_searches, prepare_library, random_model
from benchmark_pictures import write_photos
from benchmark_process import Measured, apart, can_evict, evict
from benchmark_report import print_peers, write_page
from benchmark_rows import ROWS, Row, chosen, photos_folder

import clipkit

TEXTS = ("a dog on the beach", "two people at a table", "a red car at night", "snow in the mountains", "my old bicycle")
NEW_PICTURES = 20
ASKED = 100
"""Texts, and pictures, that recall is measured with."""


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("benchmark-work"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmark-runs"), show_default=True)
@click.option("--docs", type=click.Path(path_type=Path), help="Also write benchmarks.md and its plots in this folder.")
@click.option("--rows", default="", metavar="NAME,...", help=f"Rows to run: {', '.join(row.name for row in ROWS)}.")
@click.option("--repeats", type=click.IntRange(1), help="Runs of each. [default: 2 to 9, by the row]")
@click.option("--quick", is_flag=True, help="Small libraries and one run of each, to see that all works.")
def peers(work: Path, out: Path, docs: Path | None, rows: str, repeats: int | None, quick: bool) -> None:
    """Compare clipkit with rclip.

    Prepares everything in the folder --work, offline but for the installation of rclip: 8 GB, which later runs use
    again. Keeps the figures as JSON in the folder --out. Runs for about 25 minutes on two cores.
    """
    try:
        wanted = chosen(rows)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    workshop = Workshop(work.absolute(), str(work.absolute() / "model"))
    workshop.folder.mkdir(parents=True, exist_ok=True)
    apart(random_model, Path(workshop.model))
    compileall.compile_dir(Path(clipkit.__file__).parent, quiet=1)  # as pip does when it installs a package
    rclip.install(workshop)
    run = {"kind": "peers", "quick": quick, "machine": machine(), "rclip": rclip.versions(workshop), "rows": []}
    file = out / f"peers-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    out.mkdir(parents=True, exist_ok=True)
    for row in wanted:
        if row.evicted and not can_evict():
            click.echo(f"{row.name}: left out, this system cannot drop files from its page cache", err=True)
            continue
        click.echo(f"{row.name}: {row.title}", err=True)
        run["rows"].append(
            measure(workshop, row, row.quick if quick else row.count, repeats or (1 if quick else row.repeats))
        )
        file.write_text(json.dumps(run, indent=1))  # after each row, so that a stopped run keeps what it has
    print_peers(run)
    print(f"kept in {file}")
    if docs:
        write_page(out, docs)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    import psutil

    names = ("clipkit", "onnxruntime", "faiss-cpu", "numpy", "torch")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(psutil.cpu_count()),
        "memory_gb": f"{psutil.virtual_memory().total / 1e9:.0f}",
        "python": platform.python_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        **{name: version(name) for name in names},
    }


def measure(workshop: Workshop, row: Row, count: int, repeats: int) -> dict:
    """Prepare a row and run it; return its figures."""
    how = {"search": _search, "index": _index, "few new": _few_new, "new model": _new_model}[row.kind]
    ways, extra, clean_up = how(workshop, row, count)
    runs: dict[str, list[Measured]] = {name: [] for name in ways}
    for number in range(repeats):
        for name, way in ways.items():
            if row.kind == "search":
                way(number)  # reads the files into the page cache, from which the other program may have displaced them
            if row.evicted:
                evict(workshop.indexes / workshop.library(count) / "vectors")
            runs[name].append(way(number))
    clean_up()
    figures: dict = {"name": row.name, "count": count, **extra}
    for name, measured in runs.items():
        values = [{key: value for key, value in asdict(one).items() if key != "out"} for one in measured]
        figures[name] = {key: median(value[key] for value in values) for key in values[0]} | {"runs": values}
        seconds = [value["seconds"] for value in values]
        figures[name] |= {"fastest": min(seconds), "slowest": max(seconds)}
    if row.kind != "search":
        figures["report"] = json.loads(runs["clipkit"][-1].out)  # with times by stage, as far as clipkit reports them
    if "rclip" in figures:
        figures["ratio"] = figures["clipkit"]["seconds"] / figures["rclip"]["seconds"]
    figures["met"] = row.judged(figures)
    return figures


Ways = tuple[dict[str, Callable[[int], Measured]], dict, Callable[[], None]]
"""How to run a row's number-th repeat with each program, what else was measured, and what to do at the end."""


def _nothing() -> None:
    pass


def _search(workshop: Workshop, row: Row, count: int) -> Ways:
    prepared = prepare_library(workshop, count)
    ways = {"clipkit": lambda number: _clipkit_search(workshop, count, TEXTS[number % len(TEXTS)])}
    if row.alone:
        return ways, {}, _nothing
    rclip.prepare_database(workshop, count)
    searches = measure_searches(workshop, count, ASKED)
    ways = {"rclip": lambda number: rclip.search(workshop, count, TEXTS[number % len(TEXTS)]), **ways}
    return ways, {"prepared": prepared, **searches}, _nothing


def _clipkit_search(workshop: Workshop, count: int, text: str) -> Measured:
    measured = workshop.clipkit("search", text, "--name", workshop.library(count), "--json")
    hits = json.loads(measured.out)["hits"]
    if len(hits) != 10:
        raise click.ClickException(f"a search returned {len(hits)} hits")
    return measured


def _photos(workshop: Workshop, row: Row, count: int, seed: int = 0) -> Path:
    folder = photos_folder(workshop.folder, row, count)
    apart(write_photos, folder, count, *row.size, seed)
    return folder


def _index(workshop: Workshop, row: Row, count: int) -> Ways:
    photos, indexes = _photos(workshop, row, count), workshop.folder / "indexes-new"
    workshop.texts()  # exports the model, which is not a part of this row

    def clipkit(number: int) -> Measured:
        shutil.rmtree(indexes, ignore_errors=True)
        measured = workshop.clipkit("index", photos, "--model", workshop.model, "--indexes", indexes, "--json")
        if json.loads(measured.out)["embedded"] != count:
            raise click.ClickException(f"clipkit did not embed all pictures: {measured.out}")
        return measured

    clipkit(0)  # the image tower is exported, and its speed measured, when it is used first
    ways = {"rclip": lambda number: rclip.index(workshop, photos), "clipkit": clipkit}
    return ways, {}, lambda: shutil.rmtree(indexes, ignore_errors=True)


def _few_new(workshop: Workshop, row: Row, count: int) -> Ways:
    """Add 20 new pictures at a time to a copy of the library, whose folder is the same."""
    prepare_library(workshop, count)
    name, new = workshop.library(count, "-copy"), workshop.files(count) / "new"
    copy = workshop.indexes / name

    def clean_up() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)

    def clipkit(number: int) -> Measured:
        folder = new / str(number)
        apart(write_photos, folder, NEW_PICTURES, *row.size, 100 + number)
        measured = workshop.clipkit("index", *([folder] if row.named else []), "--name", name, "--json")
        if json.loads(measured.out)["embedded"] != NEW_PICTURES:
            raise click.ClickException(f"clipkit did not embed all pictures: {measured.out}")
        return measured

    clean_up()
    shutil.copytree(workshop.indexes / workshop.library(count), copy)
    return {"clipkit": clipkit}, {}, clean_up


def _new_model(workshop: Workshop, row: Row, count: int) -> Ways:
    """Index with an empty cache, as when a model was just downloaded."""
    photos, fresh = _photos(workshop, row, count), workshop.folder / "fresh"

    def clipkit(number: int) -> Measured:
        shutil.rmtree(fresh, ignore_errors=True)
        command = ["index", photos, "--model", workshop.model, "--indexes", fresh / "indexes", "--json"]
        return workshop.clipkit(*command, XDG_CACHE_HOME=str(fresh / "cache"))

    return {"clipkit": clipkit}, {}, lambda: shutil.rmtree(fresh, ignore_errors=True)
