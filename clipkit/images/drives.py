"""Identify the drive of a folder, so that the mount point of a missing drive is not mistaken for an empty folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

DriveStatus = Literal["here", "empty", "missing", "another", "away", "closed"]
"""The status of a folder that used to have pictures.

here, empty: it exists, with or without content.
missing: it does not exist, though its drive is there.
another: it exists, but on another drive than before.
away: its drive is missing or does not respond.
closed: permission denied.
"""

_UUIDS = Path("/dev/disk/by-uuid")


def drive_of(path: Path) -> str:
    """Return a line of text that identifies the drive of an existing file or folder. Raises OSError.

    It has up to three parts, the most reliable first: file system UUID, file system id, device number. The device
    number is the weakest, because it is reassigned to the next drive that is plugged in.
    """
    status = os.stat(path)
    marks = {"dev": str(status.st_dev)}
    if hasattr(os, "statvfs"):
        id_ = os.statvfs(path).f_fsid
        if id_:  # it is 0 for network file systems
            marks["fs"] = f"{id_:x}"
    uuid = _uuid(status.st_dev)
    if uuid:
        marks["uuid"] = uuid
    return " ".join(f"{mark}={marks[mark]}" for mark in ("uuid", "fs", "dev") if mark in marks)


def same_drive(one: str, other: str) -> bool:
    """Compare two results of `drive_of` by the most reliable part that both have."""
    first, second = _marks(one), _marks(other)
    mark = next((mark for mark in ("uuid", "fs", "dev") if mark in first and mark in second), None)
    return mark is None or first[mark] == second[mark]


def drive_status(folder: Path, drive: str | None) -> DriveStatus:
    """Return the status of a folder, or single file, that was last seen on `drive`; None if the drive is unknown."""
    try:
        if drive and not same_drive(drive, drive_of(folder)):
            return "another"
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            return "here"
        with os.scandir(folder) as entries:
            return "here" if any(not entry.name.startswith(".") for entry in entries) else "empty"
    except (FileNotFoundError, NotADirectoryError):
        return "missing" if drive is None or _is_here(drive, folder.parent) else "away"
    except PermissionError:
        return "closed"
    except (OSError, ValueError):
        return "away"


def _is_here(drive: str, folder: Path) -> bool:
    """Return whether the nearest existing ancestor, starting with `folder`, is on the drive."""
    for ancestor in (folder, *folder.parents):
        try:
            return same_drive(drive, drive_of(ancestor))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return False
    return False


def _marks(drive: str) -> dict[str, str]:
    return dict(mark.split("=", 1) for mark in drive.split() if "=" in mark)


def _uuid(device: int) -> str | None:
    try:
        entries = list(_UUIDS.iterdir())
    except OSError:  # not Linux, or a container
        return None
    for entry in entries:
        try:
            if os.stat(entry).st_rdev == device:
                return entry.name
        except OSError:
            continue
    return None
