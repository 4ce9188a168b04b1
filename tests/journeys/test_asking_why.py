"""`clipkit explain`: as text, as JSON and as a picture; its exit codes and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import Library
from clipkit.cli.explanation_output import heat_lines
from clipkit.samples.painting import paint
from clipkit.samples.photos import sample_scenes


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photo of a cat on the beach, in a library of six beside it."""
    folder = tmp_path_factory.mktemp("why")
    (folder / "photos").mkdir()
    for number, scene in enumerate(sample_scenes(6)):
        paint(scene, 96).save(folder / "photos" / f"{number}.png")
    with Library.create(folder / "indexes" / "default", model="tiny") as library:
        library.index([folder / "photos"], workers=1)
    return folder / "photos" / "0.png"


@pytest.fixture(autouse=True)
def here(clipkit, cat: Path, monkeypatch: pytest.MonkeyPatch):
    """The library is found without being named."""
    monkeypatch.setenv("CLIPKIT_INDEXES", str(cat.parents[1] / "indexes"))


def test_a_hit_is_explained_in_words_as_json_and_as_a_picture(clipkit, cat: Path, tmp_path: Path):
    told = clipkit("explain", "a cat on the beach", cat, "-o", tmp_path / "heat.png")
    assert told.code == 0
    lines = dict(line.split(maxsplit=1) for line in told.out.splitlines() if not line.startswith("part"))
    assert lines["picture"] == str(cat) and lines["verdict"].startswith("match, confidence 0.")
    assert {"a cat", "a picture on the beach"} <= {shown.rpartition(" ")[0] for shown in lines["shows"].split(", ")}
    assert "in common" in told.out and "█" not in told.out, "the heat is for terminals"
    parts = [line.split(maxsplit=1)[1] for line in told.out.splitlines() if line.startswith("part")]
    assert [part.partition(":")[0] for part in parts] == ["a cat", "on the beach"]
    with Image.open(tmp_path / "heat.png") as drawing:
        assert drawing.format == "PNG"

    (hit,) = json.loads(clipkit("search", "a cat on the beach", "--json", "-k", "1").out)["hits"]
    explained = clipkit("explain", "a cat on the beach", str(hit["id"]), "--json")
    data = json.loads(explained.out)
    assert data["picture"] == hit["path"] and data["confidence"] == hit["confidence"]
    assert data["score"] == pytest.approx(hit["score"], abs=1e-5) and np.asarray(data["heat"]).max() > 0.5

    assert clipkit("explain", "a whale", cat, "--not", "in the snow").code == 1
    assert clipkit("verify", tmp_path / "heat.png").out.startswith("no mark")
    by_picture = json.loads(clipkit("explain", str(hit["id"]), cat, "--json").out)
    assert by_picture["query"]["like"] == [hit["path"]] and by_picture["confidence"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a cat", "missing.jpg"), "missing.jpg"),
        (("a cat", "999"), "999"),
        (("missing.jpg", "PICTURE"), "missing.jpg"),
        (("???", "PICTURE"), "no words"),
        (("a cat", "PICTURE", "-o", "heat.gif"), ".png"),
        (("a cat", "PICTURE", "-o", "PICTURE"), "never overwritten"),
        (("a cat", "PICTURE", "--model", "ViT-B-32-256/datacomp_s34b_b86k"), "does not have the model"),
        (("a cat", "PICTURE", "--name", "other"), "no library"),
        (("a cat",), "PICTURE"),
    ],
)
def test_errors_are_one_line(clipkit, cat: Path, arguments, words):
    before = cat.read_bytes()
    output = clipkit("explain", *(str(cat) if argument == "PICTURE" else argument for argument in arguments))
    assert output.code == 2 and output.out == ""
    assert words in output.err and output.err.count("\n") == 1 and "Traceback" not in output.err
    assert cat.read_bytes() == before


def test_heat_in_characters_is_readable_without_colour():
    heat = np.zeros((10, 40), np.float32)
    heat[:, 30:] = 1
    lines = heat_lines(heat, (0.25, 0, 1, 1))
    assert len({len(line) for line in lines}) == 1
    top, *body, bottom = lines
    assert top == bottom and set(top) == {"+", "-"}
    for line in body:
        inside = line.strip("|")
        assert set(inside[: len(inside) // 4]) == {"-"} and set(inside[-len(inside) // 4 + 1 :]) == {"█"}
    assert "".join(heat_lines(heat, (0, 0, 1, 1), " .:*#")).isascii()
