"""Compare what a scan has seen with what the catalog knows. `Catalog.begin_scan` starts the ledger."""

from __future__ import annotations

from pathlib import Path

from clipkit.catalog.catalog import Catalog, is_unseen
from clipkit.catalog.paths import to_stored, where_at_or_below


def any_seen_below(catalog: Catalog, folder: Path) -> bool:
    """Return whether the scan saw a file at or below a folder."""
    where, parameters = where_at_or_below(folder)
    seen = f"SELECT 1 FROM temp.seen WHERE {where}", f"SELECT 1 FROM images WHERE {where} AND NOT {is_unseen()}"
    sql = f"SELECT EXISTS ({seen[0]}) OR EXISTS ({seen[1]})"
    return bool(catalog.db.execute(sql, 2 * parameters).fetchone()[0])


def any_known_inside(catalog: Catalog, folder: Path) -> bool:
    """Return whether the catalog knows any picture or failure below a folder."""
    where, parameters = where_at_or_below(folder)
    where = f"{where} AND path <> ?"
    sql = f"SELECT EXISTS (SELECT 1 FROM images WHERE {where}) OR EXISTS (SELECT 1 FROM failures WHERE {where})"
    return bool(catalog.db.execute(sql, 2 * [*parameters, to_stored(folder)]).fetchone()[0])


def share_seen_below(catalog: Catalog, folder: Path) -> float:
    """Return the fraction of the known pictures at or below a folder that the scan saw; 1 if none are known."""
    where, parameters = where_at_or_below(folder)
    sql = f"SELECT AVG(NOT {is_unseen()}) FROM images WHERE {where}"
    share = catalog.db.execute(sql, parameters).fetchone()[0]
    return 1.0 if share is None else share
