"""rclip, installed from the package index, with the same model and the same vectors, offline."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
from benchmark_library import ARCHITECTURE, Workshop
from benchmark_pictures import WHEN, empty_file
from benchmark_process import Measured, apart, run_process
from benchmark_vectors import image_vectors

VERSION = "3.3.0"
MODEL_FOLDER = "ViT-B-32-256-datacomp_s34b_b86k"
"""rclip looks for its model below this name in $RCLIP_DATADIR, and downloads what is not there."""


def install(workshop: Workshop) -> None:
    """Install rclip in a virtual environment, and export the model for it, unless that is done."""
    python = _python(workshop)
    if not (_environment_folder(workshop) / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", _environment_folder(workshop)], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"rclip=={VERSION}"]
        done = subprocess.run(pip, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise click.ClickException(
                f"rclip {VERSION} cannot be installed: {(done.stderr.splitlines() or ['?'])[-1]}"
            )
        (_environment_folder(workshop) / "installed").touch()
    if not (_model(workshop) / "complete").exists():
        apart(_export, Path(workshop.model), _model(workshop))
        (_model(workshop) / "complete").touch()


def versions(workshop: Workshop) -> dict[str, str]:
    """Return the versions of rclip and of what it computes with."""
    code = "from importlib.metadata import version as v; print(*(v(n) for n in ('rclip', 'onnxruntime', 'numpy')))"
    out = subprocess.run([_python(workshop), "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return dict(zip(("rclip", "onnxruntime", "numpy"), out, strict=True))


def prepare_database(workshop: Workshop, count: int) -> None:
    """Fill rclip's database with the vectors of the library of `count` pictures, unless it is there."""
    folder = _data(workshop, str(count))
    if (folder / "filled").exists():
        return
    new_data(workshop, str(count))
    apart(_fill, workshop, count, folder / "db.sqlite3")
    (folder / "filled").touch()


def search(workshop: Workshop, count: int, text: str) -> Measured:
    """Search the library of `count` pictures, as a process of its own, without looking for new files."""
    return _run(workshop, str(count), workshop.files(count), "--no-indexing", text)


def index(workshop: Workshop, photos: Path) -> Measured:
    """Index a folder into a new database; rclip then also searches, which takes about a second."""
    new_data(workshop, "new")
    return _run(workshop, "new", photos, "a dog")


def new_data(workshop: Workshop, name: str) -> None:
    """Make an empty data folder of rclip, in which the model is only linked."""
    folder = _data(workshop, name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in (MODEL_FOLDER, "tokenizer"):
        (folder / part).symlink_to(_model(workshop) / part, target_is_directory=True)
    create = "import sys; from rclip.db import DB; DB(sys.argv[1]).close()"
    subprocess.run([_python(workshop), "-c", create, folder / "db.sqlite3"], check=True)


def _run(workshop: Workshop, data: str, folder: Path, *arguments: str) -> Measured:
    own = {"RCLIP_DATADIR": str(_data(workshop, data)), "HF_HUB_OFFLINE": "1"}
    command = [str(_python(workshop)), "-m", "rclip", *arguments]
    return run_process(command, {**os.environ, **own, "PYTHONPATH": ""}, folder)


def _fill(workshop: Workshop, count: int, database: Path) -> None:
    root = workshop.files(count)
    numbers = iter(range(count))
    with closing(sqlite3.connect(database)) as db, db:
        for vectors in image_vectors(workshop.texts(), count):
            rows = [(str(empty_file(root, next(numbers))), WHEN / 1e9, 0, vector.tobytes()) for vector in vectors]
            db.executemany("INSERT INTO images (filepath, modified_at, size, vector) VALUES (?, ?, ?, ?)", rows)


def _export(checkpoint: Path, folder: Path) -> None:
    """Export the towers of the checkpoint in rclip's layout: visual.onnx, textual.onnx, and the vocabulary."""
    import open_clip
    import torch

    model = open_clip.create_model(ARCHITECTURE, pretrained=str(checkpoint / "open_clip_model.safetensors")).eval()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operators have no counterpart in ONNX

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.model.encode_text(tokens)

    towers = {
        "visual": (model.visual, torch.randn(1, 3, 256, 256)),
        "textual": (Text(), torch.zeros(1, 77, dtype=torch.long)),
    }
    (folder / MODEL_FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer").mkdir(exist_ok=True)
    for name, (tower, example) in towers.items():
        torch.onnx.export(
            tower,
            (example,),
            str(folder / MODEL_FOLDER / f"{name}.onnx"),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            opset_version=18,
            dynamo=False,
        )
    vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    shutil.copyfile(Path(open_clip.__file__).with_name(vocabulary), folder / "tokenizer" / vocabulary)


def _environment_folder(workshop: Workshop) -> Path:
    return workshop.folder / f"rclip-{VERSION}"


def _python(workshop: Workshop) -> Path:
    return _environment_folder(workshop) / "bin" / "python"


def _model(workshop: Workshop) -> Path:
    return workshop.folder / "rclip-model"


def _data(workshop: Workshop, name: str) -> Path:
    return workshop.folder / "rclip-data" / name
