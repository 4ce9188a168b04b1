"""Distinguish a missing drive from an emptied folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipkit.images.drives import drive_of, drive_status, same_drive


def test_drives_are_compared_by_the_most_reliable_common_part():
    assert same_drive("uuid=A fs=1 dev=5", "uuid=A fs=2 dev=6"), "the same file system, under another number"
    assert not same_drive("uuid=A fs=1 dev=5", "uuid=B fs=1 dev=5"), "another one that was given the same number"
    assert same_drive("fs=1 dev=5", "uuid=A fs=1 dev=6") and not same_drive("fs=1 dev=5", "fs=2 dev=5")
    assert same_drive("dev=5", "fs=1 dev=5") and not same_drive("dev=5", "dev=6")


def test_folders_on_one_drive(tmp_path: Path):
    own = drive_of(tmp_path)
    assert own == drive_of(tmp_path) and "dev=" in own
    (tmp_path / "file.jpg").touch()
    assert same_drive(own, drive_of(tmp_path / "file.jpg"))


def test_every_status(tmp_path: Path):
    own, other = drive_of(tmp_path), "uuid=other fs=abc dev=999999"
    folder = tmp_path / "folder"
    folder.mkdir()
    assert drive_status(folder, own) == "empty"
    (folder / ".hidden").touch()
    assert drive_status(folder, own) == drive_status(folder, None) == "empty"
    (folder / "a.jpg").touch()
    assert drive_status(folder, own) == drive_status(folder, None) == drive_status(folder / "a.jpg", own) == "here"
    assert drive_status(folder, other) == "another"
    missing = folder / "not" / "there"
    assert (drive_status(missing, own), drive_status(missing, None), drive_status(missing, other)) == (
        "missing",
        "missing",
        "away",
    )
    assert drive_status(folder / "a.jpg" / "below a file", own) == "missing"


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a Unix system")
def test_symlinks(tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert drive_status(link, drive_of(tmp_path)) == "missing"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert drive_status(loop, None) == "away"
