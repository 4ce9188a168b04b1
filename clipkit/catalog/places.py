"""The folders of a library, the drives they lay on, and how it stands with each now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import below, from_stored, to_stored
from clipkit.catalog.records import now
from clipkit.images.drives import Standing, standing
from clipkit.images.files import is_absent


class Places:
    """A library's roots and the mount points below them. Each is asked once, and only when it matters."""

    def __init__(self, catalog: Catalog) -> None:
        rows = catalog.db.execute("SELECT path, drive FROM drives")
        self.drives: dict[Path, str | None] = {root: None for root, _ in catalog.roots()}
        self.drives.update((from_stored(path), drive) for path, drive in rows)
        self._standings: dict[Path, Standing] = {}

    def place_of(self, path: Path) -> Path | None:
        """The innermost place at or above a path; None if there is none."""
        return next((place for place in (path, *path.parents) if place in self.drives), None)

    def standing(self, place: Path) -> Standing:
        """How it stands with a place."""
        if place not in self._standings:
            self._standings[place] = standing(place, self.drives.get(place))
        return self._standings[place]

    def has_gone(self, path: Path) -> bool:
        """Whether a file is not there any more although its drive is: it was moved or deleted."""
        place = self.place_of(path)
        if place is not None and self.standing(place) not in ("here", "empty", "missing"):
            return False
        return is_absent(path, follow_links=False)


def scanned(catalog: Catalog, roots: Iterable[Path], drives: Mapping[Path, str]) -> None:
    """Notes that roots were read to their ends, and on which drives they and the mount points below them lie.

    `drives` replaces all that was known of the roots and of what is below them.
    """
    with catalog.transaction():
        for root in roots:
            where, parameters = below(root)
            catalog.db.execute(f"DELETE FROM drives WHERE {where}", parameters)
            catalog.db.execute("UPDATE roots SET scanned_at = ? WHERE path = ?", [now(), to_stored(root)])
        rows = [(to_stored(path), drive) for path, drive in drives.items()]
        catalog.db.conn.executemany("INSERT OR REPLACE INTO drives VALUES (?, ?)", rows)
