"""Are the files of the hits there? Asked of a bounded number of files, and once of each folder of the library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from clipkit.catalog.root_drives import RootDrives

Presence = Literal["here", "away", "gone", "unreadable"]
"""away: on a drive that is not there. gone: deleted or moved. unreadable: the system refuses to say, or fails."""


class Looker:
    """Looks whether files are there, for one search. `in_vain` counts the times that it asked the system about a file
    that cannot be shown."""

    def __init__(self, places: RootDrives) -> None:
        self._places = places
        self._missing_folders: set[Path] = set()
        self.in_vain = 0
        self.unreadable_folder: Path | None = None

    def look(self, path: Path) -> Presence:
        """Whether a file is there; a missing folder, or one that is away, answers for all files below it."""
        place = self._places.nearest_root(path)
        standing = self._places.status(place) if place else "here"
        if standing == "closed":
            self.unreadable_folder = place
            return "unreadable"
        if place != path and standing in ("missing", "empty", "away"):
            return "away"
        if not self._missing_folders.isdisjoint(path.parents):
            return "gone"
        try:
            os.stat(path)
            return "here"
        except (FileNotFoundError, NotADirectoryError):
            if standing in ("another", "away"):
                return "away"
            self.in_vain += 1
            if not os.path.lexists(path.parent):
                self._missing_folders.add(path.parent)
            return "gone"
        except (OSError, ValueError):
            if standing in ("another", "away"):
                return "away"
            self.in_vain += 1
            self.unreadable_folder = path.parent
            return "unreadable"
