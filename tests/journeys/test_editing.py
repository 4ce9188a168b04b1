"""Edits of a library's pictures with the bundled decoder: marked, recorded, and kept apart from photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from clipkit import Library
from clipkit.images.hashing import content_hash


def test_a_hit_is_edited_verified_listed_and_indexed_apart(clipkit, scene_folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted(scene_folder.rglob("*.jpg"))[:12]:
        (photos / path.name).write_bytes(path.read_bytes())
    assert clipkit("index", photos, "--model", "tiny").code == 0
    found = clipkit("search", "--like", next(photos.glob("*.jpg")), "--json", "-k", "1", "--generate", "never")
    (hit,) = json.loads(found.out)["hits"]
    original = Path(hit["path"])
    before = original.read_bytes()

    command = ("edit", str(hit["id"]), "a dog", "--box", "20,20,60,60", "--seed", "4", "--steps", "6", "--json")
    (row,) = json.loads(clipkit(*command).out)
    made = Path(row["path"])
    assert row["operation"] == "edit" and row["parents"] == [str(original)] and row["query"]["text"] == "a dog"
    with Image.open(original) as image, Image.open(made) as result:
        changed = (np.asarray(image) != np.asarray(result)).any(2)
    assert changed[20:80, 20:80].mean() > 0.8
    changed[20:80, 20:80] = False
    assert not changed.any() and original.read_bytes() == before

    assert clipkit("verify", made).out.startswith("AI-edited")
    (verdict,) = json.loads(clipkit("verify", made, "--json").out)
    assert verdict["edited"] and verdict["generated"] and verdict["watermark"]["found"]
    assert "edit: a dog" in clipkit("generated").out

    (photos / "edited.png").write_bytes(made.read_bytes())
    report = json.loads(clipkit("index", "--json").out)
    assert (report["images"], report["generated"]) == (12, 1)
    assert "1 of them edited photos" in clipkit("info").out
    assert clipkit("index", photos, "--include-generated").code == 0
    like = ("search", "--like", made, "--json", "--generate", "never", "--where")
    (only,) = json.loads(clipkit(*like, "edited_from IS NOT NULL").out)["hits"]
    assert Path(only["path"]).name == "edited.png"
    parents = json.loads(clipkit(*like, f"hash = '{content_hash(original)}'").out)["hits"]
    assert [hit["path"] for hit in parents] == [str(original)]

    (extended,) = json.loads(clipkit("extend", f"generated:{row['id']}", "--left", "24", "--steps", "4", "--json").out)
    with Image.open(extended["path"]) as image, Image.open(made) as kept:
        assert np.array_equal(np.asarray(image)[:, 24:], np.asarray(kept))


def test_the_same_in_python(tmp_path):
    from clipkit.samples.painting import paint
    from clipkit.samples.photos import sample_scenes

    image = paint(sample_scenes(1)[0], 96)
    mask = np.zeros((96, 96), bool)
    mask[:40] = True
    with Library.create(tmp_path / "library", model="tiny") as library:
        (picture,) = library.edit(image, "a dog", mask=mask, seed=1, steps=4)
        with Image.open(picture.path) as made:
            assert np.array_equal(np.asarray(made)[40:], np.asarray(image)[40:])
        assert library.command_of(picture) is None, "the picture has no name"
        assert [made.operation for made in library.generated()] == ["edit"] and library.generated()[0].edited
