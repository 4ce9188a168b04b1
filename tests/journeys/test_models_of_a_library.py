"""Several models in one library: added, brought up to date, searched, made the default, removed, killed meanwhile."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipkit import ClipkitError, Library
from clipkit.models.registry import BUNDLED


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a second model: a folder with the bundled weights plus noise."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(BUNDLED / "clip", folder)
    weights, noise = folder / "open_clip_model.safetensors", torch.Generator().manual_seed(1)
    state = load_file(weights)
    for name, value in state.items():
        if name.startswith("visual.") and value.is_floating_point() and value.ndim > 1:
            spread = 0.05 * value.float().std()
            state[name] = value + (spread * torch.randn(value.shape, generator=noise)).to(value.dtype)
    save_file(state, weights)
    return str(folder)


@pytest.fixture
def library(scene_library) -> Path:
    return scene_library


@pytest.fixture(scope="session")
def indexed_by_both(indexed_scenes: Path, other: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of libraries with `default`, which has both models; tests must not change it."""
    folder = tmp_path_factory.mktemp("both") / "indexes"
    shutil.copytree(indexed_scenes, folder)
    with Library.open(folder / "default") as library:
        assert library.index(model=other).embedded == 120
    return folder


@pytest.fixture
def of_both(indexed_by_both: Path, tmp_path: Path) -> Path:
    """The test's own library that has both models."""
    shutil.copytree(indexed_by_both, tmp_path / "indexes")
    return tmp_path / "indexes" / "default"


def rows(library: Path, space: str) -> list[tuple]:
    with sqlite3.connect(library / "catalog.db") as db:
        return db.execute(
            "SELECT embeddings.id, path, vector, norm FROM embeddings JOIN images USING (hash) WHERE space = ?"
            " ORDER BY path",
            [space],
        ).fetchall()


def answer(output) -> dict:
    return json.loads(output.out)


def held(clipkit) -> dict[str, tuple]:
    """Model -> dimension, embedded, pictures, default: the models of the library, as `models list --json` has them."""
    keys = ("dimension", "embedded", "pictures", "default")
    listed = answer(clipkit("models", "list", "--json"))
    return {row["id"]: tuple(row["library"][key] for key in keys) for row in listed if row["library"]}


def test_adding_a_second_model_embeds_all_files_and_loses_nothing(clipkit, library, other):
    before = rows(library, "tiny")
    alone = answer(clipkit("search", "a cat on the beach", "--json"))
    report = answer(clipkit("index", "--model", other, "--json"))
    assert (report["embedded"], report["unchanged"], report["added"], report["models"]) == (120, 120, 0, [other])
    assert rows(library, "tiny") == before
    assert [row[1] for row in rows(library, other)] == [row[1] for row in before]
    assert all(a[2] != b[2] for a, b in zip(rows(library, other), before, strict=True))
    again = answer(clipkit("search", "a cat on the beach", "--json"))
    assert (again["model"], again["hits"]) == ("tiny", alone["hits"])
    there = answer(clipkit("search", "a cat on the beach", "--model", other, "--json"))
    assert there["model"] == other and there["hits"][0]["score"] != alone["hits"][0]["score"]
    info = answer(clipkit("info", "--json"))
    assert info["models"] == {"tiny": 120, other: 120} and info["pictures"] == 120
    assert f"{other}: 120 of 120 pictures (100%)" in clipkit("info").out
    assert clipkit("check").code == 0


def test_index_updates_all_models_unless_one_is_named(clipkit, of_both, other, scene_folder, tmp_path):
    photos = tmp_path / "more"
    photos.mkdir()
    pictures = sorted(scene_folder.rglob("*.jpg"))
    (photos / "a.jpg").write_bytes(pictures[0].read_bytes() + b"a")  # same picture, different hash
    report = answer(clipkit("index", photos, "--json"))
    assert (report["added"], report["embedded"], report["models"]) == (1, 2, ["tiny", other])
    (photos / "b.jpg").write_bytes(pictures[1].read_bytes() + b"b")
    narrowed = answer(clipkit("index", photos, "--model", other, "--json"))
    assert (narrowed["added"], narrowed["embedded"]) == (1, 1)
    assert answer(clipkit("info", "--json"))["models"] == {"tiny": 121, other: 122}
    searched = answer(clipkit("search", "a dog", "--json", "-k", "500"))
    assert len(searched["hits"]) == 121 and "searched 121 of 122 pictures (99%)" in searched["notes"][0]
    assert "searched 121 of 122" in clipkit("search", "a dog").err
    assert "searched" not in "".join(answer(clipkit("search", "a dog", "--model", other, "--json"))["notes"])
    shutil.copytree(tmp_path / "indexes", tmp_path / "copy")
    assert clipkit("models", "remove", other, "--indexes", tmp_path / "copy").code == 0
    left = answer(clipkit("search", "a dog", "--json", "--indexes", tmp_path / "copy"))
    assert "searched 121 of 122" in left["notes"][0], "also if it is the only model again"
    assert "Embedded in tiny, " in clipkit("index").out
    assert answer(clipkit("info", "--json"))["models"] == {"tiny": 122, other: 122}


def test_choosing_the_default_model(clipkit, of_both, other):
    assert held(clipkit) == {"tiny": (256, 120, 120, True), other: (256, 120, 120, False)}
    assert clipkit("models", "use", other).code == 0
    assert answer(clipkit("search", "a dog", "--json"))["model"] == other
    assert held(clipkit) == {"tiny": (256, 120, 120, False), other: (256, 120, 120, True)}
    lines = clipkit("models", "list").out.splitlines()
    library_lines = lines[lines.index("Library 'default':") + 1 :]
    assert [line.split()[0] for line in library_lines] == [other, "tiny"]
    assert [line.endswith("120 of 120 pictures") for line in library_lines] == [False, True]
    assert library_lines[0].endswith("120 of 120 pictures  default")
    assert answer(clipkit("export", of_both.parent / "out", "--model", "tiny", "--json"))["model"] == "tiny"


def test_removing_a_model(clipkit, of_both, other):
    before = rows(of_both, "tiny")
    with Library.open(of_both) as opened:
        folder = opened.layout.vectors(other)
    assert folder.is_dir()
    output = clipkit("models", "remove", other)
    assert output.code == 0 and output.out.startswith("120 embeddings")
    assert not folder.exists() and rows(of_both, other) == [] and rows(of_both, "tiny") == before
    assert list(answer(clipkit("info", "--json"))["models"]) == ["tiny"]
    assert clipkit("check").code == 0
    back = answer(clipkit("index", "--model", other, "--json"))
    assert back["embedded"] == 120
    assert clipkit("models", "remove", "tiny").code == 0, "the first model can go, the next becomes the default"
    assert answer(clipkit("search", "a dog", "--json"))["model"] == other


def test_mistakes_are_one_line(clipkit, library, other):
    for arguments, hint in (
        (("models", "remove", "tiny"), "only model"),
        (("models", "remove", other), "does not have the model"),
        (("models", "use", other), f"clipkit index --model {other}"),
        (("search", "a dog", "--model", "ViT-L-14/openai"), "only tiny"),
        (("export", library.parent / "out", "--model", other), "does not have the model"),
    ):
        output = clipkit(*arguments)
        assert output.code == 2 and output.err.count("\n") == 1 and hint in output.err, arguments
    assert len(rows(library, "tiny")) == 120


def test_leftovers_of_an_interrupted_removal_are_not_used(clipkit, of_both, other):
    """Its search index refers to deleted embeddings; it must not serve the same model when that is added again."""
    with Library.open(of_both) as opened:
        folder = opened.layout.vectors(other)
    shutil.copytree(folder, of_both.parent / "kept")
    clipkit("models", "remove", other)
    shutil.copytree(of_both.parent / "kept", folder)
    clipkit("index", "--model", other)
    found = answer(clipkit("search", "a dog", "--model", other, "--json", "-k", "500"))
    assert len(found["hits"]) == 120 and clipkit("check").code == 0


def test_a_model_whose_files_are_gone_is_skipped_with_a_note(clipkit, library, other, scene_folder, tmp_path):
    model = tmp_path / "gone"
    shutil.copytree(other, model)
    assert clipkit("index", "--model", model).code == 0
    shutil.rmtree(model)
    from clipkit.models.loading import forget_encoders

    forget_encoders()  # as in a new process
    output = clipkit("index", "--json")
    assert output.code == 0 and answer(output)["models"] == ["tiny"] and str(model) in answer(output)["notes"][0]
    assert output.err.count("\n") == 1 and str(model) in output.err
    assert clipkit("search", "a dog", "--model", model).code == 2
    assert clipkit("models", "remove", model).code == 0


def test_a_file_that_turns_unreadable_keeps_the_embedding_it_has(clipkit, library, other, scene_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(scene_folder / "2024", photos)
    assert clipkit("index", photos, "--model", "tiny", "--name", "n").code == 0
    victim = next(photos.glob("*.jpg"))
    state = victim.stat()
    content = victim.read_bytes()
    victim.write_bytes(bytes(len(content)))  # as on a bad disk: size and time are unchanged
    import os

    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    report = answer(clipkit("index", "--model", other, "--name", "n", "--json"))
    assert report["failed"] == 1 and victim.name in clipkit("failures", "--name", "n").out
    counts = answer(clipkit("info", "--name", "n", "--json"))["models"]
    assert counts["tiny"] == counts[other] + 1
    victim.write_bytes(content)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert answer(clipkit("index", "--name", "n", "--json"))["embedded"] == 1
    assert clipkit("failures", "--name", "n").out == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_kill_while_a_model_is_added_loses_nothing(clipkit, library, other, scene_folder, tmp_path):
    before = rows(library, "tiny")
    command = [sys.executable, "-m", "clipkit", "index", "--model", other, "--indexes", str(library.parent)]
    process = subprocess.Popen([*command, "--batch-size", "1"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with Library.open(library) as watched:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and process.poll() is None:
            if len(watched.models()) == 2 and watched.models()[1].embedded >= 2:
                break
            time.sleep(0.005)
    process.kill()
    process.wait()
    half = answer(clipkit("search", "a dog", "--model", other, "--json", "-k", "500"))
    built = len(half["hits"])
    assert 2 <= built < 120 and f"searched {built} of 120 pictures" in half["notes"][0]
    assert rows(library, "tiny") == before
    assert answer(clipkit("search", "a dog", "--json", "-k", "500"))["model"] == "tiny"
    report = answer(clipkit("index", "--json"))
    assert report["embedded"] == 120 - built, "nothing is embedded twice"
    assert answer(clipkit("info", "--json"))["models"] == {"tiny": 120, other: 120}
    assert clipkit("check").code == 0


def test_the_same_in_python(library, other, scene_folder):
    with Library.open(library) as lib:
        report = lib.index(model=other)
        assert report.embedded == 120 and report.models == [other]
        assert lib.search("a dog", model=other).model == other and lib.search("a dog").model == "tiny"
        lib.use_model(other)
        assert lib.model == other and [s.default for s in lib.models()] == [True, False]
        assert lib.remove_model("tiny") == 120
        with pytest.raises(ClipkitError, match="only model"):
            lib.remove_model(other)
