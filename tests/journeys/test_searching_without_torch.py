"""A search starts fast because it imports none of the libraries that models are built with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

UNUSED = ("sqlite_utils", "filelock", "PIL", "importlib.metadata", "ftfy", "regex", "rich", "clipkit.models.checkpoint")
"""What a search by plain words does not use: each takes as long to import as a small library takes to search."""

HEAVY = ("torch", "torchvision", "open_clip", "transformers", "timm", "onnx", "onnxscript", "diffusers", "pyarrow")

DRIVER = """
import json, sys
from clipkit.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(json.dumps([code, [name for name in WATCHED if name in sys.modules]]), file=sys.stderr)
"""


def run(*arguments: str | os.PathLike[str], watched: tuple[str, ...] = HEAVY) -> tuple[int, list[str]]:
    """Run the command line in a process of its own; return its exit code and which modules of `watched` it loaded."""
    driver = DRIVER.replace("WATCHED", repr(watched))
    done = subprocess.run([sys.executable, "-c", driver, *map(os.fspath, arguments)], capture_output=True, text=True)
    return tuple(json.loads(done.stderr.splitlines()[-1]))


def test_text(scene_library: Path):
    assert run("search", "a dog", "--indexes", scene_library.parent, "--json", watched=(*HEAVY, *UNUSED)) == (0, [])


def test_text_in_any_script(scene_library: Path):
    code, loaded = run("search", "a café — 犬", "--indexes", scene_library.parent)
    assert code in (0, 1) and loaded == []


def test_a_picture_and_text_to_avoid(scene_library: Path, scene_folder: Path):
    picture = next(scene_folder.rglob("*.jpg"))
    code, loaded = run("search", "--like", picture, "--not", "at night", "--indexes", scene_library.parent)
    assert code in (0, 1) and loaded == []


def test_an_explanation(scene_library: Path, scene_folder: Path, tmp_path: Path):
    picture, drawing = next(scene_folder.rglob("*.jpg")), tmp_path / "heat.png"
    code, loaded = run("explain", "a dog on the beach", picture, "-o", drawing, "--indexes", scene_library.parent)
    assert code in (0, 1) and loaded == [] and drawing.exists()


def test_text_with_a_real_architecture(tmp_path: Path, scene_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A small ViT-B-32 with QuickGELU, as open_clip saves it: even its first use is free of torch."""
    import open_clip
    from models.test_onnx import make_checkpoint

    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    config["embed_dim"] = 64
    config["vision_cfg"] |= {"layers": 2, "width": 64, "head_width": 32, "image_size": 64, "patch_size": 16}
    config["text_cfg"] |= {"layers": 2, "width": 64, "heads": 2}
    model = make_checkpoint(tmp_path / "model", config)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    picture, library = next(scene_folder.rglob("*.jpg")), tmp_path / "indexes"
    code, loaded = run("index", picture, "--model", model, "--device", "cpu", "--indexes", library, "--workers", "1")
    assert (code, loaded) == (0, ["onnx"]), "which writes the graphs, once"
    for words in ("a dog", "a café — 犬"):
        code, loaded = run("search", words, "--indexes", library)
        assert code in (0, 1) and loaded == []


def test_indexing_with_the_bundled_model(tmp_path: Path, scene_folder: Path):
    picture = next(scene_folder.rglob("*.jpg"))
    code, loaded = run("index", picture, "--model", "tiny", "--device", "cpu", "--indexes", tmp_path, "--workers", "1")
    assert (code, loaded) == (0, [])
