"""Everyday use: index folders, search them, move files around, index again."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from clipkit.matching import Matcher
from clipkit.samples.captions import caption
from clipkit.samples.painting import paint
from clipkit.samples.photos import ABSENT_THINGS, sample_scenes
from clipkit.samples.world import scenes


@pytest.fixture
def library(scene_library, scene_folder: Path) -> Path:
    """The pictures of the library that `clipkit` searches."""
    return scene_folder


def found(output) -> list[str]:
    return [hit["path"] for hit in json.loads(output.out)["hits"]]


def test_twenty_queries_over_a_thousand_unseen_scenes(clipkit, tmp_path):
    rng = random.Random(5)
    unseen = list(islice(scenes(987_654_321), 1000))
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, scene in enumerate(unseen):
        paint(scene, 96).save(photos / f"{i}.jpg", quality=90)
    report = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)
    assert (report["added"], report["failed"], report["images"]) == (1000, 0, 1000)
    right = 0
    for scene in rng.sample(unseen, 20):
        first = Path(found(clipkit("search", caption(scene, rng), "--json"))[0])
        right += unseen[int(first.stem)].content == scene.content
    assert right >= 18


def test_the_json_output_has_the_documented_keys(clipkit, library):
    output = clipkit("search", "a cat on the beach", "--json", "-k", "3")
    answer = json.loads(output.out)
    assert {"query", "library", "model", "matched", "confidence", "hits", "generated", "timings_ms"} <= set(answer)
    assert answer["library"] == "default" and answer["model"] == "tiny"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert all({"rank", "path", "score", "confidence", "matched", "id"} <= set(hit) for hit in answer["hits"])
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True) and all(-1 <= s <= 1 for s in scores)
    assert output.code == (0 if answer["matched"] else 1)


def test_what_the_library_has_matches_and_what_it_lacks_does_not(clipkit, library):
    present = [
        "a cat on the beach",
        "a dog in a meadow",
        "a penguin in the snow",
        "a robot in the city",
        "a rocket in space",
        "an umbrella in the rain",
        "a car in the street",
        "an owl at night",
        "a bear in the forest",
        "a camel in the desert",
    ]
    found = [clipkit("search", text).code == 0 for text in present]
    assert sum(found) >= 9
    absent = [
        f"a {thing} {where}" for thing in ABSENT_THINGS for where in ("on the beach", "at night", "in the desert")
    ]
    refused = [clipkit("search", text, "--generate", "never") for text in absent]
    assert sum(output.code == 1 for output in refused) >= 9
    for output in refused:
        assert output.out.count("\n") == 10, "the nearest pictures are shown anyway"
        assert ("nothing matches" in output.err) == (output.code == 1)


def test_unknown_words_are_reported(clipkit, library):
    output = clipkit("search", "a purple chandelier", "--json")
    answer = json.loads(output.out)
    assert answer["query"]["unknown_words"] == ["purple", "chandelier"]
    assert not answer["matched"] and output.code == 1
    assert "'purple', 'chandelier'" in clipkit("search", "a purple chandelier").err


def test_a_picture_finds_itself(clipkit, library):
    cat = next(library.rglob("IMG_0000.jpg"))
    answer = json.loads(clipkit("search", "--like", cat, "--json").out)
    assert answer["hits"][0]["path"] == str(cat) and answer["hits"][0]["score"] > 0.999
    assert answer["matched"]


def test_not_steers_away(clipkit, library):
    scene_of = {f"IMG_{i:04}": scene for i, scene in enumerate(sample_scenes(120))}
    plain = found(clipkit("search", "at night", "--json", "-k", "6"))
    target = next(p.thing.name for path in plain for p in scene_of[Path(path).stem].placed)
    turned = found(clipkit("search", "at night", "--not", f"a {target}", "--weight", "1", "--weight", "1", "--json"))
    with_it = [path for path in plain if any(p.thing.name == target for p in scene_of[Path(path).stem].placed)]
    assert all(turned.index(path) > plain.index(path) for path in with_it if path in turned)


def test_filters_apply_before_the_cutoff(clipkit, library):
    rows = [p for p in sorted(library.rglob("*.jpg")) if p.parent.name == "2024"]
    answer = found(clipkit("search", "a dog", "--under", library / "2024", "-k", "500", "--json"))
    assert sorted(answer) == [str(p) for p in rows]
    by_date = found(clipkit("search", "a dog", "--after", "2024", "--before", "2025-01-01", "-k", "500", "--json"))
    assert sorted(by_date) == sorted(answer)
    three = found(clipkit("search", "a dog", "--under", library / "2024", "-k", "3", "--json"))
    assert three == answer[:3]
    cameras = [
        len(found(clipkit("search", "a dog", "--camera", name, "-k", "500", "--json")))
        for name in ("canon", "FUJI", "pixel")
    ]
    assert sum(cameras) == 120 and all(cameras)
    places = [
        len(found(clipkit("search", "a dog", "--near", place, "-k", "500", "--json")))
        for place in ("38.72,-9.14,5", "35.01,135.77,5", "-1.29,36.82,5")
    ]
    assert sum(places) == 120 and all(places)
    wide = clipkit("search", "a dog", "--where", "width = 96 AND id % 2 = 0", "-k", "500", "--json")
    assert len(found(wide)) == 60
    nothing = clipkit("search", "a dog", "--where", "width > 10000", "--json", "--generate", "never")
    assert nothing.code == 1 and found(nothing) == []


def test_a_second_run_and_a_move_embed_nothing(clipkit, scene_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(scene_folder, photos)
    first = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)
    assert first["added"] == first["embedded"] == 120
    again = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)
    assert (again["unchanged"], again["embedded"], again["added"]) == (120, 0, 0)
    before = found(clipkit("search", "a penguin in the snow", "--json"))
    (photos / "2024").rename(photos / "winter")
    moved = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)
    assert moved["embedded"] == moved["added"] == moved["removed"] == 0 and moved["moved"] > 10
    after = found(clipkit("search", "a penguin in the snow", "--json"))
    assert after == [path.replace("/2024/", "/winter/") for path in before]


def test_copied_changed_and_deleted_files(clipkit, scene_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(scene_folder, photos)
    clipkit("index", "--model", "tiny", photos)
    best = Path(found(clipkit("search", "a cat on the beach", "--json"))[0])
    shutil.copy(best, photos / "copy.jpg")
    report = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)
    assert (report["added"], report["duplicates"], report["embedded"]) == (1, 1, 0)
    hits = json.loads(clipkit("search", "a cat on the beach", "--json").out)["hits"]
    assert {hits[0]["path"], *hits[0]["copies"]} == {str(best), str(photos / "copy.jpg")}
    best.unlink()
    (photos / "copy.jpg").unlink()
    gone = clipkit("search", "a cat on the beach", "--json")
    assert str(best) not in found(gone), "a deleted file disappears from results at once, before the next run"
    other = photos / "2024" / "IMG_0500.jpg"
    Image.new("RGB", (64, 64), "red").save(other)
    clipkit("index", "--model", "tiny", photos)
    Image.new("RGB", (64, 64), "blue").save(other)
    os.utime(other, (1, 1))
    changed = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)
    assert (changed["changed"], changed["embedded"], changed["images"]) == (1, 1, 120)


def test_index_without_paths_rescans_all_known_folders(clipkit, scene_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(scene_folder / "2024", photos)
    (photos / "private").mkdir()
    shutil.copy(next(photos.glob("*.jpg")), photos / "private" / "secret.jpg")
    count = json.loads(clipkit("index", "--model", "tiny", photos, "--exclude", "private", "--json").out)["images"]
    next(photos.glob("*.jpg")).unlink()
    again = json.loads(clipkit("index", "--json").out)
    assert (again["removed"], again["images"]) == (1, count - 1), "and exclusions are remembered"


def test_a_drive_that_is_away_loses_nothing(clipkit, scene_folder, tmp_path):
    photos, away = tmp_path / "drive", tmp_path / "away"
    shutil.copytree(scene_folder / "2024", photos)
    count = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)["images"]
    photos.rename(away)
    assert json.loads(clipkit("index", "--json").out)["images"] == count
    away.rename(photos)
    back = json.loads(clipkit("index", "--json").out)
    assert (back["unchanged"], back["embedded"]) == (count, 0)


def test_real_files_of_many_formats_and_real_photographs(clipkit, shared):
    report = json.loads(clipkit("index", "--model", "tiny", shared / "formats", shared / "photos", "--json").out)
    real = [p for folder in ("formats", "photos") for p in (shared / folder).iterdir() if p.suffix != ".csv"]
    assert (report["scanned"], report["failed"]) == (len(real), 0)
    assert report["images"] == report["added"] == len(real) == 223
    assert json.loads(clipkit("index", "--json").out)["embedded"] == 0
    for photo in random.Random(0).sample(real, 10):
        answer = json.loads(clipkit("search", "--like", photo, "--json", "-k", "1").out)["hits"][0]
        assert str(photo) in (answer["path"], *answer["copies"])


def test_file_names_with_any_bytes(clipkit, scene_folder, tmp_path):
    photos = os.fsencode(tmp_path / "photos")
    os.mkdir(photos)
    source = os.fsencode(next(scene_folder.rglob("IMG_0000.jpg")))
    strange = [b"\xff\xfe.jpg", "naïve 🐈.jpg".encode(), b"new\nline.jpg", b"-dash.jpg", b"a'b\"c.jpg"]
    for i, name in enumerate(strange):
        with open(source, "rb") as original, open(os.path.join(photos, name), "wb") as copy:
            copy.write(original.read() + bytes(i))  # bytes after the end of a JPEG change only its hash
    assert clipkit("index", "--model", "tiny", tmp_path / "photos").code == 0
    output = clipkit("search", "a cat on the beach", "-0", "--min-confidence", "0")
    paths = [os.fsencode(path) for path in output.out.split("\0") if path]
    assert sorted(paths) == sorted(os.path.join(photos, name) for name in strange)
    assert len(found(clipkit("search", "a cat on the beach", "--json"))) == len(strange)
    assert clipkit("search", "a cat on the beach").code == 0
    assert clipkit("search", "a cat on the beach", "--csv").out.count("\n") >= len(strange) + 1


def test_a_folder_that_cannot_be_read_loses_nothing(clipkit, scene_folder, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    shutil.copytree(scene_folder, photos)
    count = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)["images"]
    scandir = os.scandir

    def failing(path):
        if os.fspath(path) == str(photos / "2024"):
            raise OSError(5, "Input/output error", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    report = json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)
    assert (report["images"], report["removed"], report["failed"]) == (count, 0, 1)
    assert str(photos / "2024") in clipkit("failures").out
    monkeypatch.setattr(os, "scandir", scandir)
    assert json.loads(clipkit("index", "--model", "tiny", photos, "--json").out)["unchanged"] == count


def test_unusable_match_statistics_are_rebuilt(library, clipkit, tmp_path):
    expected = json.loads(clipkit("search", "a cat", "--json").out)["confidence"]
    (file,) = (tmp_path / "indexes").rglob("matcher.npz")
    ours = Matcher.load(file).calibration
    theirs = Matcher.load(file)
    theirs.calibration = replace(ours, text_offset=ours.text_offset - 3)
    for corrupt in (lambda: theirs.save(file), lambda: file.write_bytes(b"corrupt"), file.unlink):
        corrupt()
        assert json.loads(clipkit("search", "a cat", "--json").out)["confidence"] == pytest.approx(expected, abs=1e-3)
        clipkit("index")
        assert Matcher.load(file).calibration == ours


def test_an_edited_copy_is_named_a_copy_and_another_picture_of_the_kind_similar(clipkit, library, tmp_path):
    original = next(library.rglob("IMG_0000.jpg"))
    with Image.open(original) as picture:
        picture.crop((2, 2, picture.width - 1, picture.height - 2)).save(tmp_path / "edited.jpg", quality=60)
    hits = json.loads(clipkit("search", "--like", tmp_path / "edited.jpg", "--json", "-k", "20").out)["hits"]
    assert hits[0]["path"] == str(original) and hits[0]["relation"] == "copy"
    assert {hit["relation"] for hit in hits[1:] if hit["matched"]} <= {"similar"}
    assert all(hit["relation"] is None for hit in hits if not hit["matched"])
    text = json.loads(clipkit("search", "a cat on the beach", "--json").out)["hits"]
    assert all(hit["relation"] is None for hit in text)


def test_a_near_miss_says_which_part_of_the_query_it_lacks(clipkit, library):
    scene_of = {f"IMG_{i:04}": scene for i, scene in enumerate(sample_scenes(120))}
    answer = json.loads(clipkit("search", "a cat on the beach", "--json", "-k", "20").out)
    near = [hit for hit in answer["hits"] if hit["lacks"]]
    assert near and not any(hit["matched"] for hit in near)
    right = 0
    for hit in near:
        scene = scene_of[Path(hit["path"]).stem]
        cat = any(placed.thing.name == "cat" for placed in scene.placed)
        right += hit["lacks"] == (["on the beach"] if cat else ["a cat"])
    assert right >= 0.7 * len(near)
    printed = clipkit("search", "a cat on the beach", "-k", "20").out
    assert "no beach" in printed or "no cat" in printed


def test_info_says_how_matches_are_decided(clipkit, library):
    assert "calibrated for this model" in clipkit("info").out
    assert "tiny" in json.loads(clipkit("info", "--json").out)["match"]
