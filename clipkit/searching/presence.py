"""Whether the files of hits still exist, with a bounded number of system calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from clipkit.catalog.root_drives import RootDrives

Presence = Literal["here", "away", "gone", "unreadable"]
"""away: on a drive that is not there. gone: moved or deleted. unreadable: no permission, or an I/O error."""


class PresenceChecker:
    """Checks files for one search; a missing or unplugged folder is checked once for all files below it.

    `failed_checks` counts the files that were checked one by one and cannot be shown.
    """

    def __init__(self, places: RootDrives) -> None:
        self._places = places
        self._missing_folders: set[Path] = set()
        self.failed_checks = 0
        self.unreadable_folder: Path | None = None

    def check(self, path: Path) -> Presence:
        """Return whether a file exists, and if not, why."""
        place = self._places.nearest_root(path)
        status = self._places.status(place) if place else "here"
        if status == "closed":
            self.unreadable_folder = place
            return "unreadable"
        if place != path and status in ("missing", "empty", "away"):
            return "away"
        if self._missing_folders and not self._missing_folders.isdisjoint(path.parents):
            return "gone"
        try:
            os.stat(path)
            return "here"
        except (FileNotFoundError, NotADirectoryError):
            if status in ("another", "away"):
                return "away"
            self.failed_checks += 1
            if not os.path.lexists(path.parent):
                self._missing_folders.add(path.parent)
            return "gone"
        except (OSError, ValueError):
            if status in ("another", "away"):
                return "away"
            self.failed_checks += 1
            self.unreadable_folder = path.parent
            return "unreadable"
