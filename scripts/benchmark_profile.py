"""Where the time of a cold text search goes, stage by stage."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
from benchmark_library import Workshop, prepare_library, random_model
from benchmark_process import apart, run_process

STAGES = """
import json, sys, time
laps = [("interpreter", time.process_time())]
def lap(name):
    laps.append((name, time.process_time()))
import gc
gc.set_threshold(50_000, 20, 20)  # as clipkit.cli.main.run does
import clipkit.cli.main, clipkit.cli.search; lap("click and the command")
import numpy; lap("numpy")
import clipkit.searching.searcher, clipkit.library; lap("clipkit's modules")
from clipkit.catalog.layout import library_folder
library = clipkit.library.Library.open(library_folder(sys.argv[1])); lap("open the catalog")
import onnxruntime; lap("onnxruntime")
searcher = library._searcher(library.model, "auto"); lap("open the text tower")
import faiss; lap("faiss")
searcher.vectors; lap("open the index")
searcher.matcher; lap("load the match decision")
from clipkit.models.tokenizing import ClipTokenizer
ClipTokenizer(77)(["a dog on the beach"]); lap("tokenizer")
searcher.encoder.encode_texts(["a dog on the beach"]); lap("encode the text, once more below")
library.search("a dog on the beach", generate="auto").to_json(); lap("encode, search, decide")
library.close(); lap("close")
print(json.dumps([(name, now - before) for (name, now), before in zip(laps, [0, *(at for _, at in laps)])]))
"""


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("benchmark-work"), show_default=True)
@click.option("--model", metavar="ID", help="[default: a ViT-B-32-256 with random weights]")
@click.option("--count", default=22, show_default=True, help="Pictures in the library.")
@click.option("--runs", default=9, show_default=True)
def profile(work: Path, model: str | None, count: int, runs: int) -> None:
    """Print the CPU time of each stage of a cold text search, in ms, the least of all runs."""
    workshop = Workshop(work.absolute(), model or str(work.absolute() / "model"))
    workshop.folder.mkdir(parents=True, exist_ok=True)
    if not model:
        apart(random_model, Path(workshop.model))
    prepare_library(workshop, count)
    least: dict[str, float] = {}
    for _ in range(runs):
        command = [sys.executable, "-c", STAGES, workshop.library(count)]
        for name, seconds in json.loads(run_process(command, {**os.environ, **workshop.environment}).out):
            least[name] = min(seconds, least.get(name, seconds))
    for name, seconds in least.items():
        print(f"{seconds * 1000:7.1f} ms  {name}")
    print(f"{sum(least.values()) * 1000:7.1f} ms  in all")
