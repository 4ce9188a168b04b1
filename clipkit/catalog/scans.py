"""What a scan has seen, compared with what the catalog knows; the ledger itself is `Catalog.begin_scan`'s."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import below, from_stored, to_stored

_UNSEEN = "images.path NOT IN (SELECT path FROM temp.seen)"


def saw_any_below(catalog: Catalog, folder: Path) -> bool:
    """Whether the scan saw a file at or below a folder."""
    where, parameters = below(folder)
    return bool(catalog.db.execute(f"SELECT EXISTS (SELECT 1 FROM temp.seen WHERE {where})", parameters).fetchone()[0])


def knows_any_inside(catalog: Catalog, folder: Path) -> bool:
    """Whether files below a folder are known, pictures or failures."""
    where, parameters = below(folder)
    where = f"{where} AND path <> ?"
    sql = f"SELECT EXISTS (SELECT 1 FROM images WHERE {where}) OR EXISTS (SELECT 1 FROM failures WHERE {where})"
    return bool(catalog.db.execute(sql, 2 * [*parameters, to_stored(folder)]).fetchone()[0])


def share_seen_below(catalog: Catalog, folder: Path) -> float:
    """The share of the pictures known at or below a folder that the scan saw; 1 if none are known."""
    where, parameters = below(folder)
    sql = f"SELECT AVG(path IN (SELECT path FROM temp.seen)) FROM images WHERE {where}"
    share = catalog.db.execute(sql, parameters).fetchone()[0]
    return 1.0 if share is None else share


def held_twice(catalog: Catalog, folders: Iterable[Path]) -> set[Path]:
    """Files that the scan did not see, while it saw others of the same content: they may have moved.

    Of contents that arrived since it began, all such files are found; of others, which a run that was killed may have
    added, those at or below `folders`.
    """
    arrived = f"SELECT images.path FROM temp.arrived JOIN images USING (hash) WHERE {_UNSEEN}"
    found = {row[0] for row in catalog.db.execute(arrived)}
    for folder in folders:
        where, parameters = below(folder, "images.path")
        sql = (
            f"SELECT images.path FROM images WHERE {where} AND {_UNSEEN} AND EXISTS (SELECT 1 FROM images AS other"
            " WHERE other.hash = images.hash AND other.path IN (SELECT path FROM temp.seen))"
        )
        found.update(row[0] for row in catalog.db.execute(sql, parameters))
    return {from_stored(path) for path in found}


def mark_vanished(catalog: Catalog, paths: Iterable[Path]) -> None:
    """Notes that these files are not there any more, wherever they were; `Catalog.remove_vanished` takes them out."""
    with catalog.db.atomic():
        rows = [(to_stored(path),) for path in paths]
        catalog.db.conn.executemany("INSERT OR IGNORE INTO temp.vanished VALUES (?)", rows)
