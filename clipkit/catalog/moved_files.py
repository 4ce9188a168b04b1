"""Moved files: content that the scan saw under a new path while a file that held it is gone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clipkit.catalog.catalog import Catalog, is_unseen
from clipkit.catalog.paths import from_stored, to_stored, where_at_or_below


def possibly_moved_files(catalog: Catalog, folders: Iterable[Path]) -> set[Path]:
    """Return files that the scan did not see, but whose content it saw under another path.

    For content that arrived since the scan began, every such file is returned. For content that an interrupted run may
    have added, only files at or below `folders` are.
    """
    arrived = f"SELECT images.path FROM temp.arrived JOIN images USING (hash) WHERE {is_unseen()}"
    found = {row[0] for row in catalog.db.execute(arrived)}
    for folder in folders:
        where, parameters = where_at_or_below(folder, "images.path")
        sql = (
            f"SELECT images.path FROM images WHERE {where} AND {is_unseen()} AND EXISTS (SELECT 1 FROM images AS other"
            f" WHERE other.hash = images.hash AND NOT {is_unseen('other')})"
        )
        found.update(row[0] for row in catalog.db.execute(sql, parameters))
    return {from_stored(path) for path in found}


def mark_vanished(catalog: Catalog, paths: Iterable[Path]) -> None:
    """Mark files as gone, wherever they were; `Catalog.remove_vanished` removes them."""
    with catalog.db.atomic():
        rows = [(to_stored(path),) for path in paths]
        catalog.db.conn.executemany("INSERT OR IGNORE INTO temp.vanished VALUES (?)", rows)
