"""Generated pictures among photographs: `verify` tells them apart, and searches hide them unless asked."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from clipkit import Provenance, save_marked
from clipkit.samples.painting import paint
from clipkit.samples.photos import sample_scenes
from clipkit.samples.world import scenes


def verdicts(output) -> dict[str, bool]:
    return {row["path"]: row["generated"] for row in json.loads(output.out)}


def test_a_hundred_generated_pictures_and_a_hundred_photographs(clipkit, shared, tmp_path):
    real = [str(path) for path in sorted((shared / "photos").glob("*.jpg"))[:100]]
    made, again = [], []
    for number, scene in enumerate(islice(scenes(31), 100)):
        path = tmp_path / f"{number}{('.png', '.jpg', '.webp')[number % 3]}"
        save_marked(paint(scene, 256), path, Provenance("a scene", "tiny", number))
        made.append(str(path))
        again.append(str(tmp_path / f"{number}-again.jpeg"))
        with Image.open(path) as image:
            image.convert("RGB").save(again[-1], quality=75)  # drops all metadata
    for files in (made, again):
        output = clipkit("verify", "--json", *files, *real)
        assert output.code == 0
        assert verdicts(output) == dict.fromkeys(files, True) | dict.fromkeys(real, False)
    rows = json.loads(clipkit("verify", "--json", *again).out)
    assert {mark["kind"] for row in rows for mark in row["marks"]} == {"watermark"}, "only the watermark survives"


@pytest.fixture
def made(tmp_path) -> Path:
    """A generated picture, of a scene that is not among the samples."""
    path = tmp_path / "pictures" / "made.png"
    path.parent.mkdir()
    save_marked(paint(next(scenes(77)), 128), path, Provenance("a scene", "tiny", 1, created_at="2026"))
    return path


def test_verify_reports_each_mark_and_exits_as_grep_does(clipkit, made, scene_folder, tmp_path):
    photo = next(scene_folder.rglob("*.jpg"))
    output = clipkit("verify", made, photo)
    assert output.code == 0 and output.err == ""
    lines = output.out.splitlines()
    assert lines[0] == f"AI-generated {made}" and lines[-1] == f"no mark      {photo}"
    assert any("trainedAlgorithmicMedia" in line for line in lines) and any("watermark" in line for line in lines)
    row = json.loads(clipkit("verify", made, "--json").out)[0]
    assert row["provenance"]["seed"] == 1 and row["watermark"]["found"] and row["c2pa"] is None
    assert {"kind", "where", "value", "generated"} == set(row["marks"][0])
    assert clipkit("verify", photo).code == 1
    (tmp_path / "no.png").write_text("not a picture")
    broken = clipkit("verify", tmp_path / "no.png", made, tmp_path / "nowhere.png", "--json")
    assert broken.code == 2 and broken.err.count("\n") == 2 and "Traceback" not in broken.err
    rows = json.loads(broken.out)
    assert [row.get("kind") for row in rows] == ["not-an-image", None, "vanished"] and rows[1]["generated"]
    assert clipkit("verify").code == 2


def best(output) -> str:
    return json.loads(output.out)["hits"][0]["path"]


def test_searches_hide_marked_pictures_unless_included(clipkit, made):
    photos = made.parent
    for number, scene in enumerate(sample_scenes(12)):
        paint(scene, 96).save(photos / f"{number}.jpg", quality=90)
    with Image.open(made) as image:  # drops the metadata: only the watermark survives
        image.save(photos / "again.jpg", quality=75)
    first = json.loads(clipkit("index", photos, "--model", "tiny", "--json").out)
    assert (first["images"], first["generated"], first["added"], first["failed"]) == (12, 2, 14, 0)
    like = ("search", "--like", made, "--json", "-k", "20", "--generate", "never")
    hidden = json.loads(clipkit(*like).out)
    assert len(hidden["hits"]) == 12 and not hidden["matched"] and "made" not in best(clipkit(*like))
    info = json.loads(clipkit("info", "--json").out)
    assert (info["images"], info["generated"], info["models"]) == (12, 2, {"tiny": 12})
    assert "2 marked files left out of searches" in clipkit("info").out
    assert "2 files are marked" in clipkit("index", photos).out

    included = json.loads(clipkit("index", photos, "--include-generated", "--json").out)
    assert (included["images"], included["generated"], included["embedded"]) == (14, 2, 0)
    found = json.loads(clipkit(*like).out)
    assert found["matched"] and found["hits"][0]["path"] == str(made) and len(found["hits"]) == 14
    assert len(json.loads(clipkit(*like, "--where", "generated IS NOT NULL").out)["hits"]) == 2

    assert json.loads(clipkit("index", "--json").out)["images"] == 14, "the setting is remembered"
    made.rename(photos / "moved.png")
    moved = json.loads(clipkit("index", "--json").out)
    assert (moved["moved"], moved["images"], moved["embedded"]) == (1, 14, 0)
    without = json.loads(clipkit("index", photos, "--no-include-generated", "--json").out)
    assert (without["images"], without["generated"], without["embedded"]) == (12, 2, 0)
    assert len(json.loads(clipkit("search", "--like", photos / "moved.png", "--json", "-k", "20").out)["hits"]) == 12


def test_an_export_leaves_marked_pictures_out(clipkit, made, tmp_path):
    paint(sample_scenes(1)[0], 96).save(made.parent / "photo.jpg")
    clipkit("index", made.parent, "--model", "tiny")
    assert json.loads(clipkit("export", tmp_path / "out", "--json").out)["vectors"] == 1


def test_the_same_in_python(made, tmp_path):
    from clipkit import Library, verify

    with Library.open_or_create(tmp_path / "library", model="tiny") as library:
        assert library.index([made.parent]).images == 0
        assert library.index([made.parent], include_generated=True).images == 1
        assert verify(made).generated
