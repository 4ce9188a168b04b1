"""What a scan did not find: which of it has gone, which has moved, and which lies on a drive that is away."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.moved_files import mark_vanished, possibly_moved_files
from clipkit.catalog.root_drives import RootDrives, record_scan
from clipkit.catalog.scan_ledger import any_known_inside, any_seen_below, share_seen_below
from clipkit.images.discovery import Mount, walk
from clipkit.images.drives import drive_of

SAME_AFTER_ALL = 0.9
"""A drive with another number than before is the one that it was if this share of its pictures is still there: numbers
are given out anew when it is plugged in again."""

MOST_NOTES = 5

_WHY = {
    "missing": "is not there",
    "away": "is away",
    "another": "is on another drive than before",
    "here": "holds no pictures any more",
    "empty": "is empty",
}


def settle(
    catalog: Catalog, roots: Iterable[Path], mounts: Iterable[Path], *, remove_missing: bool
) -> tuple[int, int, list[str]]:
    """Takes out what has vanished below `roots`, at the end of a scan of them that met these mount points.

    Folders that are not there, empty, or on another drive than before keep their pictures, unless `remove_missing`.
    Returns how many files left, how many of those moved, and a note for every folder that kept some.
    """
    roots = list(roots)
    places = RootDrives(catalog)
    absent = (place for place in places.drives if places.status(place) in ("missing", "empty"))
    mark_vanished(catalog, filter(places.has_vanished, possibly_moved_files(catalog, absent)))
    notes: list[str] = []
    drives = {mount: drive for mount in mounts if (drive := _drive(mount))}
    for place in _below(places, roots):
        if not remove_missing and _is_away(catalog, places, place):
            kept = catalog.mark_seen_below(place)
            if kept:
                root = next(above for above in (place, *place.parents) if above in roots)
                notes.append(_note(place, root, _WHY[places.status(place)], kept))
            before = places.drives[place]
            if before and (kept or place in roots):
                drives[place] = before
        elif drive := _drive(place):
            drives[place] = drive
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES:] = [f"{len(notes) - MOST_NOTES:,} more folders are away: their pictures are kept"]
    removed, moved = catalog.remove_vanished(roots)
    record_scan(catalog, roots, drives)
    return removed, moved, notes


def _below(places: RootDrives, roots: list[Path]) -> Iterator[Path]:
    """The roots, and the places known below them."""
    chosen = set(roots)
    return (place for place in places.drives if place in chosen or not chosen.isdisjoint(place.parents))


def _is_away(catalog: Catalog, places: RootDrives, place: Path) -> bool:
    """Whether the pictures of a place are out of reach, rather than deleted."""
    how = places.status(place)
    if how == "closed":
        return False  # the scan has said so, and takes all below it for there
    if how == "missing" and not any_known_inside(catalog, place):
        return False  # nothing to lose; or a file that was indexed by its own name, and was deleted
    if how in ("missing", "away"):
        return True
    if how == "another":
        return share_seen_below(catalog, place) < SAME_AFTER_ALL
    # Only where nothing is there at all: what is excluded now was not lost.
    return not any_seen_below(catalog, place) and all(isinstance(found, Mount) for found in walk([place]))


def _note(place: Path, root: Path, why: str, kept: int) -> str:
    pictures = "1 picture is" if kept == 1 else f"{kept:,} pictures are"
    command = f"clipkit index {shlex.quote(str(root))} --remove-missing"
    return f"{place} {why}: its {pictures} kept; `{command}` takes them out"


def _drive(place: Path) -> str | None:
    try:
        return drive_of(place)
    except (OSError, ValueError):
        return None
