"""Files that cannot be indexed: each keeps its cause, and is retried once the cause may no longer apply."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from confined import without_rights_of_root
from PIL import Image

from clipkit.indexing import pipeline

YEAR = 31_556_952


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with three small, different pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "lime"), ("c.png", "blue")):
        Image.new("RGB", (40, 30), colour).save(folder / name)
    return folder


def report(output) -> dict:
    assert output.code == 0, output.err
    return json.loads(output.out)


def failed(clipkit) -> dict[str, str]:
    return {Path(row["path"]).name: row["reason"] for row in json.loads(clipkit("failures", "--json").out)}


# --- unusual metadata ---


def test_files_with_any_timestamp_are_indexed_once(clipkit, photos):
    stamps = {"a.png": 330 * YEAR, "b.png": -1, "c.png": -400 * YEAR}
    for name, seconds in stamps.items():
        os.utime(photos / name, (seconds, seconds))
    if os.stat(photos / "a.png").st_mtime_ns < 2**63:
        pytest.skip("this file system does not support such dates")
    first = report(clipkit("index", "--model", "tiny", photos, "--json"))
    assert (first["added"], first["failed"]) == (3, 0)
    assert report(clipkit("index", "--json"))["unchanged"] == 3
    Image.new("RGB", (40, 30), "gray").save(photos / "a.png")
    os.utime(photos / "a.png", (331 * YEAR, 331 * YEAR))
    assert report(clipkit("index", "--json"))["changed"] == 1
    assert clipkit("search", "a cat", "--json", "--generate", "never").code in (0, 1)


# --- causes outside the file ---


def test_a_file_that_becomes_readable_is_read(photos, tmp_path):
    closed, touched = photos / "a.png", photos / "b.png"
    index, failures = ("clipkit", "index", "--json"), ("clipkit", "failures", "--json")
    steps = without_rights_of_root(
        tmp_path / "indexes",
        ("chmod", "000", closed),
        (*index, photos, "--model", "tiny"),
        failures,
        index,
        ("chmod", "644", closed),
        index,
        failures,
        ("touch", touched),
        ("chmod", "000", touched),
        index,
        ("chmod", "644", touched),
        index,
        failures,
    )
    first, noted, again, opened, none, closed_again, back, none_again = (
        json.loads(steps[i]["out"]) for i in (1, 2, 3, 5, 6, 9, 11, 12)
    )
    assert (first["added"], first["failed"]) == (2, 1) and "permission" in noted[0]["reason"]
    assert (again["unchanged"], again["failed"]) == (2, 1)
    assert (opened["added"], opened["failed"], opened["images"], none) == (1, 0, 3, [])
    assert (closed_again["failed"], closed_again["removed"], closed_again["images"]) == (1, 0, 3), "it is kept"
    assert (back["failed"], back["unchanged"], none_again) == (0, 3, [])


def test_failures_are_cleared_once_a_closed_folder_is_open_again(photos, tmp_path):
    index, failures = ("clipkit", "index", "--json"), ("clipkit", "failures", "--json")
    steps = without_rights_of_root(
        tmp_path / "indexes",
        (*index, photos, "--model", "tiny"),
        ("chmod", "600", photos),  # names can be listed, but files cannot be accessed
        index,
        ("chmod", "755", photos),
        index,
        failures,
    )
    closed, back, none = (json.loads(steps[i]["out"]) for i in (2, 4, 5))
    assert (closed["removed"], closed["images"]) == (0, 3)
    assert (back["unchanged"], back["failed"], none) == (3, 0, [])


def test_a_larger_limit_retries_and_a_smaller_one_does_not(clipkit, photos, monkeypatch):
    assert report(clipkit("index", "--model", "tiny", photos, "--max-pixels", "100", "--json"))["failed"] == 3
    hashed = []
    content_hash = pipeline.content_hash
    monkeypatch.setattr(pipeline, "content_hash", lambda *given: hashed.append(given) or content_hash(*given))
    for limit in ("100", "50"):
        assert report(clipkit("index", "--max-pixels", limit, "--json"))["failed"] == 3
    assert not hashed, "files that would be rejected again are not read"
    larger = report(clipkit("index", "--max-pixels", "2000", "--json"))
    assert (larger["added"], larger["failed"], failed(clipkit)) == (3, 0, {})


def test_installing_an_extra_retries_its_files(photos, tmp_path):
    pytest.importorskip("rawpy")
    raw = photos / "d.dng"
    Image.new("RGB", (40, 30), "navy").save(raw, "TIFF", tiffinfo={50706: b"\x01\x04\x00\x00"})
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "rawpy.py").write_text("raise ImportError('not installed', name='rawpy')\n")

    def run(*arguments: str, without: bool) -> dict:
        path = os.pathsep.join([str(blocked)] * without + sys.path)
        environment = os.environ | {"PYTHONPATH": path, "CLIPKIT_INDEXES": str(tmp_path / "indexes")}
        command = [sys.executable, "-m", "clipkit", *arguments]
        return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)

    first = run("index", str(photos), "--model", "tiny", "--json", without=True)
    assert (first["added"], first["failed"]) == (3, 1)
    (noted,) = run("failures", "--json", without=True)
    assert noted["kind"] == "unsupported" and "clipkit[raw]" in noted["reason"]
    run("index", "--json", without=False)
    with sqlite3.connect(tmp_path / "indexes/default/catalog.db") as db:
        causes = db.execute("SELECT cause FROM failures").fetchall()
    assert not any(cause.startswith("missing") for (cause,) in causes), "it was read with rawpy installed"


def test_corrupt_files_are_not_retried_until_decoders_change(clipkit, photos, tmp_path, monkeypatch):
    (photos / "a.png").write_bytes((photos / "a.png").read_bytes()[:60])
    assert report(clipkit("index", "--model", "tiny", photos, "--json"))["failed"] == 1
    hashed = []
    content_hash = pipeline.content_hash
    monkeypatch.setattr(pipeline, "content_hash", lambda *given: hashed.append(given[0].name) or content_hash(*given))
    assert report(clipkit("index", "--json"))["failed"] == 1
    assert hashed == []
    for old in ("bytes:clipkit 0.0.1, pillow 1.0", ""):  # older decoders; a version that did not record causes
        with sqlite3.connect(tmp_path / "indexes/default/catalog.db") as db:
            db.execute("UPDATE failures SET cause = ?", [old])
        assert report(clipkit("index", "--json"))["failed"] == 1
    assert hashed == ["a.png", "a.png"]


def test_a_huge_file_is_rejected_without_reading_it(clipkit, photos):
    for name in ("huge.jpg", "huge.dng"):
        with open(photos / name, "wb") as file:
            try:
                file.truncate(20 * 1024**3)
            except OSError:
                pytest.skip("this file system does not support sparse files of that size")
    before = _bytes_read()
    output = report(clipkit("index", "--model", "tiny", photos, photos / "huge.jpg", "--json"))
    assert (output["added"], output["failed"]) == (3, 2)
    assert _bytes_read() - before < 1024**3
    assert all("limit" in reason for reason in failed(clipkit).values())


def _bytes_read() -> int:
    counts = Path("/proc/self/io")
    if not counts.is_file():
        pytest.skip("this system does not report how much a process reads")
    return int(next(line for line in counts.read_text().splitlines() if line.startswith("rchar:")).split()[1])


# --- files that change during a run ---


def while_decoding(monkeypatch, name: str, action) -> None:
    """Call `action` once, when the file of that name has been hashed and is about to be decoded."""
    decode, done = pipeline.decode, []

    def decode_after(items, pool):
        def passing():
            for item in items:
                if item.path.name == name and item.needs_decoding and not done:
                    done.append(action())
                yield item

        yield from decode(passing(), pool)

    monkeypatch.setattr(pipeline, "decode", decode_after)


@pytest.mark.parametrize("batch_size", ["1", "32"])
def test_the_other_copy_is_read_when_one_is_deleted(clipkit, photos, monkeypatch, batch_size):
    for folder in ("in", "out", "sorted"):
        (photos / folder).mkdir()
        shutil.copy(photos / "a.png", photos / folder / "m.png")
    (photos / "a.png").unlink()
    while_decoding(monkeypatch, "m.png", (photos / "in" / "m.png").unlink)
    first = report(clipkit("index", "--model", "tiny", photos, "--batch-size", batch_size, "--json"))
    assert (first["added"], first["embedded"], first["images"]) == (4, 3, 4)
    assert list(failed(clipkit)) in ([], ["m.png"]), "at most the deleted file"
    second = report(clipkit("index", "--json"))
    assert (second["unchanged"], second["failed"], failed(clipkit)) == (4, 0, {})


def test_a_file_that_is_renamed_during_a_run(clipkit, photos, monkeypatch):
    later = photos / "z"
    later.mkdir()
    while_decoding(monkeypatch, "a.png", lambda: (photos / "a.png").rename(later / "a.png"))
    # If the target folder has been scanned already, the next run finds the file.
    first = report(clipkit("index", "--model", "tiny", photos, "--json"))
    assert first["images"] >= 2
    second = report(clipkit("index", "--json"))
    assert second["images"] == 3
    assert (second["failed"], failed(clipkit)) == (0, {})


def test_a_file_that_is_replaced_during_a_run_gets_its_own_vector(clipkit, photos, monkeypatch):
    shutil.copy(photos / "a.png", photos / "twin.png")
    other = Image.effect_noise((64, 64), 90).convert("RGB")
    while_decoding(monkeypatch, "a.png", lambda: other.save(photos / "a.png"))
    first = report(clipkit("index", "--model", "tiny", photos, "--json"))
    assert (first["images"], first["embedded"], failed(clipkit)) == (4, 4, {})
    hits = json.loads(clipkit("search", "--like", photos / "twin.png", "--json").out)["hits"]
    assert hits[0]["path"] == str(photos / "twin.png") and hits[0]["score"] > 0.999 and hits[0]["copies"] == []
    assert report(clipkit("index", "--json"))["unchanged"] == 4


def test_files_that_swap_names_keep_their_details(clipkit, photos, tmp_path):
    Image.new("RGB", (50, 20), "red").save(photos / "a.png")
    report(clipkit("index", "--model", "tiny", photos, "--json"))
    (photos / "a.png").rename(photos / "x")
    (photos / "b.png").rename(photos / "a.png")
    (photos / "x").rename(photos / "b.png")
    swapped = report(clipkit("index", "--json"))
    assert (swapped["changed"], swapped["embedded"], swapped["images"]) == (2, 0, 3)
    with sqlite3.connect(tmp_path / "indexes/default/catalog.db") as db:
        widths = {Path(path).name: width for path, width in db.execute("SELECT path, width FROM images")}
    assert widths == {"a.png": 40, "b.png": 50, "c.png": 40}
