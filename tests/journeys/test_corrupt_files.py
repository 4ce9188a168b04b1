"""Hundreds of corrupt files: each is accounted for, and none stops the run."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from images.make_files import bombs, encoded

from clipkit.samples.painting import paint
from clipkit.samples.photos import sample_scenes

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM")


def test_three_hundred_corrupt_files(clipkit, tmp_path: Path):
    folder = tmp_path / "corrupt"
    folder.mkdir()
    rng = random.Random(7)
    good = {name: encoded(paint(sample_scenes(1)[0], 48), name) for name in FORMATS}
    for i in range(340):
        name = rng.choice(FORMATS)
        data = bytearray(good[name])
        kind = i % 4
        if kind == 0:
            data = data[: rng.randrange(1, len(data))]
        elif kind == 1:
            for _ in range(rng.choice((1, 5, 50))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[: rng.randrange(1, 64)] = rng.randbytes(40)
        else:
            start = rng.randrange(len(data))
            data[start : start + rng.randrange(1, 200)] = bytes(rng.randrange(1, 200))
        (folder / f"{i:03}.{rng.choice(('jpg', 'png', 'tiff', 'webp', 'heic', 'nef', 'jp2'))}").write_bytes(data)
    for name, data in bombs().items():
        (folder / name).write_bytes(data)
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is not a picture\n" * 10)
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    os.symlink(folder / "nowhere.jpg", folder / "dangling.jpg")
    expected = len(list(folder.iterdir()))

    output = clipkit("index", "--model", "tiny", folder, "--json", "--workers", "2")
    assert output.code == 0
    report = json.loads(output.out)
    failures = json.loads(clipkit("failures", "--json").out)
    indexed = json.loads(clipkit("search", "a cat", "-k", "1000", "--json").out)["hits"]
    seen = {f["path"] for f in failures} | {p for hit in indexed for p in (hit["path"], *hit["copies"])}
    assert seen == {str(path) for path in folder.iterdir()} and len(seen) == expected
    assert (report["failed"], report["images"]) == (len(failures), expected - len(failures))
    assert all(f["reason"] and "\n" not in f["reason"] for f in failures)
    assert {"not-an-image", "truncated", "too-large", "directory", "unreadable"} <= {f["kind"] for f in failures}
    again = json.loads(clipkit("index", "--json").out)
    assert (again["failed"], again["embedded"], again["images"]) == (len(failures), 0, report["images"])


def test_a_failed_file_is_retried_when_it_changes(clipkit, tmp_path: Path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"not yet a picture")
    assert json.loads(clipkit("index", "--model", "tiny", folder, "--json").out)["failed"] == 1
    paint(sample_scenes(1)[0], 48).save(folder / "a.jpg")
    report = json.loads(clipkit("index", "--model", "tiny", folder, "--json").out)
    assert (report["failed"], report["added"], report["images"]) == (0, 1, 1)
    assert clipkit("failures").out == ""
