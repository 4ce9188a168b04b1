"""Searching libraries whose files are gone, away or unreadable, and libraries that are read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from confined import with_mounts, without_rights_of_root

SEARCH = ("clipkit", "search", "a cat on the beach", "--json", "--generate", "never")


def hits(output) -> dict[str, bool]:
    """Return path -> whether it is away."""
    return {hit["path"]: hit["away"] for hit in json.loads(output.out)["hits"]}


def test_hits_on_a_drive_that_is_away_are_marked(clipkit, scene_folder, tmp_path):
    drive, here = tmp_path / "drive", tmp_path / "here"
    shutil.copytree(scene_folder / "2024", drive)
    shutil.copytree(scene_folder / "2023", here)
    assert clipkit("index", "--model", "tiny", drive, here).code == 0
    query = ("search", "a cat on the beach", "-k", "200", "--generate", "never")
    before = hits(clipkit(*query, "--json"))
    drive.rename(tmp_path / "unplugged")
    output = clipkit(*query, "--json")
    assert hits(output) == {path: path.startswith(str(drive)) for path in before}
    assert any("away" in note for note in json.loads(output.out)["notes"])
    states = [line.split("\t")[3] for line in clipkit(*query).out.splitlines()]
    assert states.count("away") == sum(hits(output).values()) > 0
    listed = clipkit(*query, "--min-confidence", "0", "--paths").out.splitlines()
    assert listed and all(Path(path).is_file() for path in listed), "paths piped into programs can be opened"
    assert clipkit(*query, "--contact-sheet", tmp_path / "sheet.jpg").code in (0, 1)


def test_thousands_of_deleted_files_cost_a_bounded_number_of_checks(clipkit, scene_folder, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    original = next(scene_folder.rglob("*.jpg")).read_bytes()
    for number in range(1500):
        path = photos / f"{number % 5}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(original + number.to_bytes(4, "little"))  # the same picture with different hashes
    (photos / "stays.txt").touch()
    assert clipkit("index", "--model", "tiny", photos).code == 0
    for path in photos.rglob("*.jpg"):
        path.unlink()
    checked = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, *given, **named: checked.append(path) or stat(path, *given, **named))
    answer = clipkit(*SEARCH[1:])
    assert len([path for path in checked if str(path).endswith(".jpg")]) < 1200
    assert hits(answer) == {} and "clipkit index" in json.loads(answer.out)["notes"][0]
    for folder in photos.glob("?"):
        folder.rmdir()
    checked.clear()
    assert hits(clipkit(*SEARCH[1:])) == {}
    assert len([path for path in checked if str(path).endswith(".jpg")]) == 5, "a deleted folder is checked once"


def test_folders_without_permission_are_skipped_with_a_note(tmp_path, scene_folder):
    photos = tmp_path / "o" / "photos"
    shutil.copytree(scene_folder, photos)
    count = len(list(photos.rglob("*.jpg")))
    closed = len(list((photos / "2024").glob("*.jpg")))
    search = (*SEARCH, "-k", str(count))
    steps = without_rights_of_root(
        tmp_path / "indexes",
        ("clipkit", "index", photos, "--model", "tiny"),
        ("chmod", "000", photos / "2024"),
        search,
        ("chmod", "755", photos / "2024"),
        ("chmod", "000", tmp_path / "o"),
        search,
        ("chmod", "755", tmp_path / "o"),
        search,
    )
    found = [json.loads(steps[i]["out"]) for i in (2, 5, 7)]
    assert [len(answer["hits"]) for answer in found] == [count - closed, 0, count]
    assert any(str(photos / "2024") in note for note in found[0]["notes"])
    assert any("cannot be read" in note for note in found[1]["notes"]) and steps[5]["code"] == 1


def test_a_library_on_a_read_only_disk_can_be_searched_but_not_changed(tmp_path, scene_folder):
    photos, indexes, closed = scene_folder / "2024", tmp_path / "indexes", tmp_path / "closed"
    closed.mkdir()
    there = ("--indexes", closed)
    steps = with_mounts(
        indexes,
        ("clipkit", "index", photos, "--model", "tiny"),
        ("mount", "--bind", indexes, closed),
        ("mount", "-o", "remount,ro,bind", closed),
        SEARCH,
        (*SEARCH, *there),
        (*SEARCH, *there, "--where", "width > 0", "--after", "2024"),
        ("clipkit", "search", "no such thing at all", *there),  # would generate a picture if it could record it
        ("clipkit", "info", "--json", *there),
        ("clipkit", "failures", "--json", *there),
        ("clipkit", "check", *there),
        ("clipkit", "index", *there),
        ("clipkit", "remove", photos, *there),
        ("clipkit", "generate", "a cat", "--decoder", "tiny", *there),
    )
    expected, read_only, filtered = (json.loads(steps[i]["out"]) for i in (3, 4, 5))
    assert read_only["hits"] == expected["hits"] and len(filtered["hits"]) == 10
    assert steps[6]["code"] in (0, 1) and "Traceback" not in steps[6]["err"]
    assert json.loads(steps[7]["out"])["images"] == len(list(photos.glob("*.jpg")))
    assert steps[8]["code"] == steps[9]["code"] == 0
    for step in steps[10:]:
        assert (
            step["code"] == 2
            and step["err"].count("\n") == 1
            and "cannot be" in step["err"].replace("can be", "cannot be")
        )


def test_the_library_of_another_user_can_be_searched(tmp_path, scene_folder):
    folder = tmp_path / "indexes" / "default"
    steps = without_rights_of_root(
        tmp_path / "indexes",
        ("clipkit", "index", scene_folder / "2024", "--model", "tiny"),
        ("chmod", "-R", "a-w", folder),
        SEARCH,
        ("clipkit", "info", "--json"),
        ("clipkit", "index"),
        ("chmod", "-R", "u+w", folder),
    )
    assert len(json.loads(steps[2]["out"])["hits"]) == 10
    assert json.loads(steps[3]["out"])["images"] > 0
    assert steps[4]["code"] == 2 and "write permission" in steps[4]["err"]


INTERRUPTED = """
import os, sys
from pathlib import Path
from clipkit.catalog.catalog import Catalog
catalog = Catalog.open(Path(sys.argv[1]))
catalog.db.execute("UPDATE images SET camera = 'Logged'")
catalog.db.conn.commit()
os._exit(1)  # as a kill does: the write-ahead log stays
"""


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_write_ahead_log_left_on_a_read_only_disk_is_read(tmp_path, scene_folder, clipkit, shared_memory):
    assert clipkit("index", scene_folder / "2024", "--model", "tiny").code == 0
    folder, closed = tmp_path / "indexes" / "default", tmp_path / "closed"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", INTERRUPTED, folder / "catalog.db"], env=environment)
    assert (folder / "catalog.db-wal").stat().st_size > 0
    if not shared_memory:
        (folder / "catalog.db-shm").unlink()
    closed.mkdir()
    steps = with_mounts(
        tmp_path / "indexes",
        ("mount", "--bind", tmp_path / "indexes", closed),
        ("mount", "-o", "remount,ro,bind", closed),
        (*SEARCH, "--camera", "logged", "--indexes", closed),
    )
    assert len(json.loads(steps[2]["out"])["hits"]) == 10
