"""Which drive a folder lies on, so that a mount point whose drive is away is not taken for an emptied folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

DriveStatus = Literal["here", "empty", "missing", "another", "away", "closed"]
"""How it stands with a folder that held pictures.

here, empty: it is there, with or without anything in it. missing: it is not there, though its drive is. another: it is
there, but on another drive than before. away: its drive is not there, or does not answer. closed: no permission.
"""

_UUIDS = Path("/dev/disk/by-uuid")


def drive_of(path: Path) -> str:
    """Return what tells the drive of an existing file or folder from others, as a line of text. Raises OSError.

    It holds up to three marks, the most telling first: the file system's UUID, its id, and the device's number. The
    number is the weakest: it goes to the next drive that is plugged in.
    """
    status = os.stat(path)
    marks = {"dev": str(status.st_dev)}
    if hasattr(os, "statvfs"):
        id_ = os.statvfs(path).f_fsid
        if id_:  # network file systems have none
            marks["fs"] = f"{id_:x}"
    uuid = _uuid(status.st_dev)
    if uuid:
        marks["uuid"] = uuid
    return " ".join(f"{mark}={marks[mark]}" for mark in ("uuid", "fs", "dev") if mark in marks)


def same_drive(one: str, other: str) -> bool:
    """Compare two results of `drive_of` by the most telling mark that both have."""
    first, second = _marks(one), _marks(other)
    mark = next((mark for mark in ("uuid", "fs", "dev") if mark in first and mark in second), None)
    return mark is None or first[mark] == second[mark]


def drive_status(folder: Path, drive: str | None) -> DriveStatus:
    """Ask how it stands with a folder, or single file, that lay on `drive`; None if that was never noted."""
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
    """Say whether the nearest folder that exists, from this one up, is on the drive."""
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
