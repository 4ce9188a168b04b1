"""Folders of a library: nested, moved, emptied, closed, on drives that come and go, and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confined import with_mounts, without_rights_of_root
from PIL import Image

COLOURS = ("red", "lime", "blue", "yellow", "cyan", "magenta", "white", "black")


def draw(*paths: Path) -> None:
    """Write small, different pictures."""
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 30), COLOURS[number % len(COLOURS)]).save(path)


def report(output) -> dict:
    assert output.code == 0, output.err
    return json.loads(output.out)


def indexed(clipkit) -> set[str]:
    """Return all files that a search shows."""
    hits = json.loads(clipkit("search", "a cat", "-k", "1000", "--json", "--generate", "never").out)["hits"]
    return {path for hit in hits for path in (hit["path"], *hit["copies"])}


def counts(report: dict, *names: str) -> tuple[int, ...]:
    return tuple(report[name] for name in names)


# --- nested folders ---


def test_the_innermost_folder_decides_what_is_excluded(clipkit, tmp_path):
    outer, inner = tmp_path / "p", tmp_path / "p" / "sub"
    draw(
        outer / "a.png", outer / "skip-b.png", inner / "skip-c.png", inner / "tmp-d.png", inner / "deep" / "skip-e.png"
    )
    report(clipkit("index", "--model", "tiny", inner, "--json"))
    report(clipkit("index", outer, "--exclude", "skip-*", "--json"))
    expected = {str(p) for p in (outer / "a.png", inner / "skip-c.png", inner / "tmp-d.png", inner / "deep/skip-e.png")}
    for command in (("index",), ("index",), ("index", outer), ("index", inner)):
        again = report(clipkit(*command, "--json"))
        assert counts(again, "added", "removed", "embedded", "images") == (0, 0, 0, 4), command
        assert indexed(clipkit) == expected
    innermost = report(clipkit("index", inner / "deep", "--exclude", "*.png", "--json"))
    assert counts(innermost, "removed", "images") == (1, 3)
    assert counts(report(clipkit("index", "--json")), "added", "removed", "images") == (0, 0, 3)
    narrower = report(clipkit("index", inner, "--exclude", "tmp-*", "--json"))
    assert counts(narrower, "removed", "images") == (1, 2)
    assert counts(report(clipkit("index", "--json")), "added", "removed", "images", "unchanged") == (0, 0, 2, 2)


def test_an_inner_folder_keeps_its_globs_if_a_symlink_reaches_it_first(clipkit, tmp_path):
    draw(tmp_path / "p" / "x" / "a.png", tmp_path / "p" / "x" / "b.png")
    (tmp_path / "p" / "link").symlink_to(tmp_path / "p" / "x")
    report(clipkit("index", "--model", "tiny", tmp_path / "p" / "x", "--exclude", "b*", "--json"))
    report(clipkit("index", tmp_path / "p", "--json"))
    assert indexed(clipkit) == {str(tmp_path / "p" / "x" / "a.png")}
    assert counts(report(clipkit("index", "--json")), "unchanged", "added", "removed") == (1, 0, 0)


def test_a_file_that_moves_between_folders_with_different_globs_counts_as_moved(clipkit, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    draw(one / "a.png", one / "b.png", other / "c.png")
    report(clipkit("index", "--model", "tiny", one, "--exclude", "x*", "--json"))
    report(clipkit("index", other, "--json"))
    (one / "a.png").rename(other / "a.png")
    assert counts(report(clipkit("index", "--json")), "moved", "added", "removed", "images") == (1, 0, 0, 3)


# --- moves ---


@pytest.mark.parametrize("leave_the_folder", [False, True])
def test_a_renamed_folder_is_known_by_its_new_name_only(clipkit, tmp_path, leave_the_folder):
    old, new = tmp_path / "photos", tmp_path / "archive"
    draw(old / "a.png", old / "2024" / "b.png", old / "2024" / "c.png")
    report(clipkit("index", "--model", "tiny", old, "--json"))
    old.rename(new)
    if leave_the_folder:
        old.mkdir()
    moved = report(clipkit("index", new, "--json"))
    assert counts(moved, "moved", "added", "removed", "embedded", "images") == (3, 0, 0, 0, 3)
    assert indexed(clipkit) == {str(new / name) for name in ("a.png", "2024/b.png", "2024/c.png")}
    again = report(clipkit("index", "--json"))
    assert counts(again, "unchanged", "removed", "images") == (3, 0, 3) and again["notes"] == []


def test_files_moved_out_of_a_folder_count_as_moved(clipkit, tmp_path):
    old, new = tmp_path / "photos", tmp_path / "best"
    draw(old / "a.png", old / "b.png", old / "c.png")
    report(clipkit("index", "--model", "tiny", old, "--json"))
    new.mkdir()
    (old / "a.png").rename(new / "renamed.png")
    shutil.copy(old / "b.png", new / "copy.png")
    moved = report(clipkit("index", new, "--json"))
    assert counts(moved, "moved", "added", "duplicates", "images") == (1, 1, 1, 4), "the original remains"
    assert indexed(clipkit) == {str(p) for p in (new / "renamed.png", new / "copy.png", old / "b.png", old / "c.png")}


def test_a_move_is_detected_after_a_kill(clipkit, tmp_path):
    old, new = tmp_path / "photos", tmp_path / "archive"
    draw(*(old / f"{i}.png" for i in range(8)))
    report(clipkit("index", "--model", "tiny", old, "--json"))
    old.rename(new)
    killed(tmp_path, "index", str(new), "--batch-size", "1", commits=1)
    again = report(clipkit("index", new, "--json"))
    assert again["images"] == 8 and indexed(clipkit) == {str(new / f"{i}.png") for i in range(8)}


# --- folders that are empty or missing ---


def test_an_empty_or_missing_folder_keeps_its_pictures_with_a_note(clipkit, tmp_path):
    empty, missing, there = tmp_path / "empty", tmp_path / "missing", tmp_path / "there"
    draw(empty / "a.png", empty / "sub" / "b.png", missing / "c.png", there / "d.png", there / "e.png")
    assert report(clipkit("index", "--model", "tiny", empty, missing, there, "--json"))["images"] == 5
    shutil.rmtree(empty / "sub")
    (empty / "a.png").unlink()
    (empty / ".nobackup").touch()
    shutil.rmtree(missing)
    (there / "e.png").unlink()
    kept = report(clipkit("index", "--json"))
    assert counts(kept, "removed", "images") == (1, 4), "files deleted from an existing folder are removed"
    assert len(kept["notes"]) == 2 and all("--remove-missing" in note for note in kept["notes"])
    assert {str(empty), str(missing)} == {note.split()[0] for note in kept["notes"]}
    answer = json.loads(clipkit("search", "a cat", "--json", "--generate", "never").out)
    away = {hit["path"]: hit["away"] for hit in answer["hits"]}
    expected = {empty / "a.png": True, empty / "sub/b.png": True, missing / "c.png": True, there / "d.png": False}
    assert away == {str(path): is_away for path, is_away in expected.items()}
    assert clipkit("index", missing).code == 2
    gone = report(clipkit("index", missing, "--remove-missing", "--json"))
    assert counts(gone, "removed", "images") == (1, 3)
    gone = report(clipkit("index", "--remove-missing", "--json"))
    assert counts(gone, "removed", "images") == (2, 1) and gone["notes"] == []
    assert report(clipkit("index", "--json"))["notes"] == []


def test_a_folder_is_not_away_because_everything_is_excluded(clipkit, tmp_path):
    draw(tmp_path / "p" / "a.png", tmp_path / "p" / "b.png")
    report(clipkit("index", "--model", "tiny", tmp_path / "p", "--json"))
    assert counts(report(clipkit("index", "--exclude", "*.png", "--json")), "removed", "images") == (2, 0)


def test_a_file_indexed_by_its_own_name_is_removed_when_deleted(clipkit, tmp_path):
    draw(tmp_path / "a.png", tmp_path / "b.png")
    report(clipkit("index", "--model", "tiny", tmp_path / "a.png", tmp_path / "b.png", "--json"))
    (tmp_path / "a.png").unlink()
    left = report(clipkit("index", "--json"))
    assert counts(left, "removed", "images") == (1, 1) and left["notes"] == []


def test_a_drive_that_is_unplugged_and_plugged_in_again(tmp_path):
    photos, drive, mount = tmp_path / "photos", tmp_path / "drive", tmp_path / "media" / "stick"
    draw(*(photos / f"{i}.png" for i in range(3)), tmp_path / "stray.png")
    drive.mkdir()
    mount.mkdir(parents=True)
    plug, index = ("mount", "--bind", drive, mount), ("clipkit", "index", "--json")
    steps = with_mounts(
        tmp_path / "indexes",
        ("mount", "-t", "tmpfs", "x", drive),
        ("cp", *sorted(photos.iterdir()), drive),
        plug,
        (*index, mount, "--model", "tiny"),
        ("umount", mount),
        index,  # 5: the mount point is empty
        ("clipkit", "search", "a cat", "--json", "--generate", "never"),
        ("cp", tmp_path / "stray.png", drive / "0.png", mount),
        index,  # 8: the mount point holds other files, one with the same name
        plug,
        index,  # 10
        ("rm", drive / "1.png"),
        index,  # 12: a picture was deleted on the drive itself
        ("umount", mount),
        (*index, mount, "--remove-missing"),  # 14
    )
    reports = {i: json.loads(steps[i]["out"]) for i in (3, 5, 8, 10, 12, 14)}
    assert reports[3]["added"] == 3
    assert counts(reports[5], "removed", "images") == (0, 3)
    assert str(mount) in reports[5]["notes"][0] and "--remove-missing" in reports[5]["notes"][0]
    assert [hit["away"] for hit in json.loads(steps[6]["out"])["hits"]] == [True] * 3
    assert counts(reports[8], "added", "removed", "images") == (1, 0, 4) and "another drive" in reports[8]["notes"][0]
    assert counts(reports[10], "removed", "embedded", "images") == (1, 0, 3) and reports[10]["notes"] == []
    assert counts(reports[12], "removed", "images") == (1, 2)
    assert reports[14]["images"] == 2 and reports[14]["notes"] == [], "the files in the mount point itself"


def test_a_drive_below_a_folder_or_behind_a_symlink_may_be_away(tmp_path):
    photos, drive, media, linked = (tmp_path / name for name in ("photos", "drive", "media", "linked"))
    draw(*(photos / f"{i}.png" for i in range(2)), media / "own.png", linked / "own.png")
    drive.mkdir()
    (media / "stick").mkdir()
    (linked / "nas").symlink_to(drive / "nas")
    plug, index = ("mount", "--bind", drive / "stick", media / "stick"), ("clipkit", "index", "--json")
    steps = with_mounts(
        tmp_path / "indexes",
        ("mount", "-t", "tmpfs", "x", drive),
        ("cp", "-r", photos, drive / "nas"),
        ("cp", "-r", photos, drive / "stick"),
        plug,
        (*index, media, "--model", "tiny"),
        (*index, linked),
        ("umount", media / "stick"),
        ("rmdir", media / "stick"),  # as desktops do
        index,  # 8
        ("mkdir", media / "stick"),
        plug,
        index,  # 11
        ("umount", "-l", drive),
        index,  # 13: the symlink is broken
        (*index, "--remove-missing"),
    )
    reports = {i: json.loads(steps[i]["out"]) for i in (4, 5, 8, 11, 13, 14)}
    assert reports[4]["images"] == 3 and reports[5]["images"] == 6
    assert counts(reports[8], "removed", "images") == (0, 6) and str(media / "stick") in reports[8]["notes"][0]
    assert counts(reports[11], "unchanged", "added", "removed") == (6, 0, 0) and reports[11]["notes"] == []
    assert counts(reports[13], "removed", "images") == (0, 6) and str(linked / "nas") in reports[13]["notes"][0]
    assert counts(reports[14], "removed", "images") == (2, 4)


def test_a_backup_of_a_drive_that_is_away_does_not_count_as_a_move(tmp_path):
    photos, backup, mount = tmp_path / "photos", tmp_path / "backup", tmp_path / "stick"
    draw(photos / "a.png", photos / "b.png")
    shutil.copytree(photos, backup)
    mount.mkdir()
    index = ("clipkit", "index", "--json")
    steps = with_mounts(
        tmp_path / "indexes",
        ("mount", "-t", "tmpfs", "x", mount),
        ("cp", *sorted(photos.iterdir()), mount),
        (*index, mount, "--model", "tiny"),
        ("umount", mount),
        (*index, backup),
    )
    assert counts(json.loads(steps[4]["out"]), "moved", "removed", "added", "images") == (0, 0, 2, 4)


# --- folders without permission ---


def test_a_closed_folder_does_not_stop_the_others_from_being_indexed(tmp_path):
    closed, open_ = tmp_path / "closed", tmp_path / "open"
    draw(closed / "p" / "a.png", open_ / "b.png")
    index = ("clipkit", "index", "--json")
    steps = without_rights_of_root(
        tmp_path / "indexes",
        (*index, closed / "p", open_, "--model", "tiny"),
        ("chmod", "000", closed),
        ("cp", open_ / "b.png", open_ / "c.png"),
        index,  # 3
        (*index, closed / "p", open_),  # 4: even if it is named
        (*index, closed / "p"),  # 5: nothing else is named
        ("clipkit", "failures"),
        ("chmod", "755", closed),
        index,
        ("clipkit", "failures", "--json"),
    )
    for number in (3, 4):
        assert steps[number]["code"] == 0, steps[number]["err"]
        assert counts(json.loads(steps[number]["out"]), "removed", "failed", "images") == (0, 1, 3)
    assert steps[5]["code"] == 2 and "permission" in steps[5]["err"] and steps[5]["err"].count("\n") == 1
    assert str(closed / "p") in steps[6]["out"]
    assert counts(json.loads(steps[8]["out"]), "unchanged", "failed") == (3, 0)
    assert json.loads(steps[9]["out"]) == []


def test_a_broken_symlink_is_rejected(clipkit, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    output = clipkit("index", tmp_path / "link", "--model", "tiny")
    assert output.code == 2 and "dangling symlink" in output.err and not (tmp_path / "indexes").exists()


# --- killed runs ---

KILLED = """
import os, signal, sys
from clipkit.cli.main import main
from clipkit.indexing import pipeline, run
commits, commit, load = int(sys.argv[1]), pipeline.commit, run.load_encoder
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def commit_and_die(*given):
    global commits
    done = commit(*given)
    commits -= 1
    return done if commits > 0 else die()
pipeline.commit = commit_and_die
if commits == 0:
    run.load_encoder = lambda *given, **named: die()
main(sys.argv[2:])
"""


def killed(tmp_path: Path, *arguments: str, commits: int) -> None:
    """Run the command line in a process that is killed after that many commits, or for 0, before the model loads."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CLIPKIT_INDEXES": str(tmp_path / "indexes")}
    command = [sys.executable, "-c", KILLED, str(commits), *arguments]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("commits", [0, 2])
def test_a_killed_first_run_is_resumed(clipkit, tmp_path, commits):
    draw(*(tmp_path / "p" / f"{i}.png" for i in range(8)), tmp_path / "p" / "skip.png")
    arguments = ("index", str(tmp_path / "p"), "--model", "tiny", "--exclude", "skip*", "--batch-size", "1")
    killed(tmp_path, *arguments, commits=commits)
    again = report(clipkit("index", "--json"))
    assert counts(again, "unchanged", "images") == (commits, 8)
    assert report(clipkit("index", "--json"))["unchanged"] == 8
