"""Files that a scan did not find: moved, deleted, or on a drive that is away."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.moved_files import mark_vanished, possibly_moved_files
from clipkit.catalog.root_drives import RootDrives, record_scan
from clipkit.catalog.scan_ledger import any_known_inside, any_seen_below, share_seen_below
from clipkit.images.discovery import Mount, walk
from clipkit.images.drives import drive_of

SAME_DRIVE_SHARE = 0.9
"""A drive with a new number counts as the same one if it still has this share of its pictures: the numbers change when
a drive is plugged in again."""

MAX_NOTES = 5

_REASONS = {
    "missing": "is missing",
    "away": "is away",
    "another": "is on another drive than before",
    "here": "no longer holds any pictures",
    "empty": "is empty",
}


@dataclass(frozen=True)
class VanishedFiles:
    """`removed` files, the `moved` ones among them, and a note for every folder whose files were kept."""

    removed: int
    moved: int
    notes: list[str]


def remove_moved_and_deleted(
    catalog: Catalog, roots: Iterable[Path], mounts: Iterable[Path], *, remove_missing: bool
) -> VanishedFiles:
    """Remove the files below `roots` that the scan just completed did not find; `mounts`: mount points it came across.

    A file has moved if the scan found its content under a new path. Folders that are missing, empty, or on another
    drive than before keep their files, unless `remove_missing`.
    """
    roots = list(roots)
    places = RootDrives(catalog)
    absent = (place for place in places.drives if places.status(place) in ("missing", "empty"))
    mark_vanished(catalog, filter(places.has_vanished, possibly_moved_files(catalog, absent)))
    notes: list[str] = []
    drives = {mount: drive for mount in mounts if (drive := _drive(mount))}
    for place in _places_in(roots, places):
        if not remove_missing and _is_away(catalog, places, place):
            kept = catalog.mark_seen_below(place)
            if kept:
                root = next(above for above in (place, *place.parents) if above in roots)
                notes.append(_note(place, root, _REASONS[places.status(place)], kept))
            before = places.drives[place]
            if before and (kept or place in roots):
                drives[place] = before
        elif drive := _drive(place):
            drives[place] = drive
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"{len(notes) - MAX_NOTES:,} more folders are away; their pictures are kept"]
    removed, moved = catalog.remove_vanished(roots)
    record_scan(catalog, roots, drives)
    return VanishedFiles(removed, moved, notes)


def _places_in(roots: list[Path], places: RootDrives) -> Iterator[Path]:
    """Yield the roots and the known places below them."""
    chosen = set(roots)
    return (place for place in places.drives if place in chosen or not chosen.isdisjoint(place.parents))


def _is_away(catalog: Catalog, places: RootDrives, place: Path) -> bool:
    """Return whether a place's pictures are out of reach rather than deleted."""
    status = places.status(place)
    if status == "closed":
        return False  # the scan has recorded the failure and marked everything below as seen
    if status == "missing" and not any_known_inside(catalog, place):
        return False  # nothing to lose, or a file that was indexed by its own name and deleted
    if status in ("missing", "away"):
        return True
    if status == "another":
        return share_seen_below(catalog, place) < SAME_DRIVE_SHARE
    # The walk ignores exclusions: a folder is not away because everything in it is excluded now.
    return not any_seen_below(catalog, place) and all(isinstance(found, Mount) for found in walk([place]))


def _note(place: Path, root: Path, reason: str, kept: int) -> str:
    pictures = "1 picture is" if kept == 1 else f"{kept:,} pictures are"
    command = f"clipkit index {shlex.quote(str(root))} --remove-missing"
    return f"{place} {reason}; its {pictures} kept (`{command}` removes them)"


def _drive(place: Path) -> str | None:
    try:
        return drive_of(place)
    except (OSError, ValueError):
        return None
