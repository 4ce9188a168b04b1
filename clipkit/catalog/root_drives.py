"""The drives that a library's roots and mount points were last seen on, and their status now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import from_stored, to_stored, where_at_or_below
from clipkit.catalog.rows import now
from clipkit.images.drives import DriveStatus, drive_status
from clipkit.images.file_access import is_absent


class RootDrives:
    """A library's roots and the mount points below them. The status of each is checked once, on demand."""

    def __init__(self, catalog: Catalog) -> None:
        rows = catalog.connection.execute("SELECT path, drive FROM drives")
        self.drives: dict[Path, str | None] = {root: None for root, _ in catalog.roots()}
        self.drives.update((from_stored(path), drive) for path, drive in rows)
        self._statuses: dict[Path, DriveStatus] = {}

    def nearest_root(self, path: Path) -> Path | None:
        """Return the innermost root or mount point at or above a path, or None."""
        return next((folder for folder in (path, *path.parents) if folder in self.drives), None)

    def status(self, root: Path) -> DriveStatus:
        """Return the drive status of a root or mount point."""
        if root not in self._statuses:
            self._statuses[root] = drive_status(root, self.drives.get(root))
        return self._statuses[root]

    def has_vanished(self, path: Path) -> bool:
        """Return whether a file was moved or deleted: it is gone, although its drive is there."""
        root = self.nearest_root(path)
        if root is not None and self.status(root) not in ("here", "empty", "missing"):
            return False
        return is_absent(path, follow_links=False)


def record_scan(catalog: Catalog, roots: Iterable[Path], drives: Mapping[Path, str]) -> None:
    """Record that roots were scanned completely, and which drives they and the mount points below them are on.

    `drives` replaces everything recorded about the roots and the folders below them.
    """
    with catalog.transaction():
        for root in roots:
            where, parameters = where_at_or_below(root)
            catalog.db.execute(f"DELETE FROM drives WHERE {where}", parameters)
            catalog.db.execute("UPDATE roots SET scanned_at = ? WHERE path = ?", [now(), to_stored(root)])
        rows = [(to_stored(path), drive) for path, drive in drives.items()]
        catalog.db.conn.executemany("INSERT OR REPLACE INTO drives VALUES (?, ?)", rows)
