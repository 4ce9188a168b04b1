"""Filters on the files that a search may return: folders, time, camera, place, or an SQL expression."""

from __future__ import annotations

import math
import re
import sqlite3
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import where_at_or_below
from clipkit.errors import BadQuery

EARTH_RADIUS_KM = 6371.0088
WHERE_TIMEOUT = 10.0
"""Seconds after which an SQL expression of the user is interrupted."""
MAX_VALUE_BYTES, MAX_PATTERN_BYTES = 4_000_000, 500
"""Limits on a value and a LIKE or GLOB pattern in such an expression: a single operation cannot be interrupted."""


@dataclass(frozen=True)
class Filters:
    """Conditions on files; all that are set must hold.

    `under`: files or folders; `Library.search` accepts any path that leads to them.
    `after` (inclusive), `before` (exclusive): a date or datetime. Without a time zone it is compared with the
    picture's local time. With one it is an instant, and pictures with an unknown UTC offset are taken to be in that
    zone. Undated pictures never match.
    `camera`: part of its name, ignoring case.
    `near`: latitude and longitude in degrees, radius in km.
    `where`: an SQL expression over the columns of `images`.
    """

    under: tuple[Path, ...] = ()
    after: date | datetime | None = None
    before: date | datetime | None = None
    camera: str | None = None
    near: tuple[float, float, float] | None = None
    where: str | None = None

    def __bool__(self) -> bool:
        return self != Filters()

    def condition(self) -> tuple[str, list]:
        """Return the SQL condition over `images`, and its parameters, without `under` and `where` (`apply_filters`)."""
        parts: list[str] = []
        parameters: list = []
        for moment, comparison in ((self.after, ">="), (self.before, "<")):
            if moment is not None:
                sql, values = _time_condition(moment, comparison)
                parts.append(sql)
                parameters += values
        if self.camera is not None:
            parts.append("instr(clipkit_fold(images.camera), ?) > 0")
            parameters.append(self.camera.casefold())
        if self.near is not None:
            parts.append("clipkit_km(images.latitude, images.longitude, ?, ?) <= ?")
            parameters += self.near
        return " AND ".join(parts) or "1", parameters


def parse_day(text: str) -> date | datetime:
    """Parse a year, a month, a date or a time: 2024, 2024-06, 2024-06-01, 2024-06-01T12:30, 2024-06-01T12:30+02:00.

    Raises BadQuery.
    """
    try:
        if re.fullmatch(r"\d{4}", text):
            return date(int(text), 1, 1)
        if re.fullmatch(r"\d{4}-\d{2}", text):
            return date.fromisoformat(f"{text}-01")
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(f"{text!r} is not a date; write it as 2024-06-01 or 2024-06-01T12:30") from None


def parse_near(text: str) -> tuple[float, float, float]:
    """Parse "LAT,LON,KM" (degrees and kilometres); raise BadQuery if it is invalid."""
    try:
        latitude, longitude, km = (float(part) for part in text.split(","))
    except ValueError:
        raise BadQuery(f"{text!r} is not a place; write LATITUDE,LONGITUDE,KM as in 48.86,2.35,10") from None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= km < math.inf):
        raise BadQuery("latitudes must be in -90 to 90, longitudes in -180 to 180, and the radius at least 0 km")
    return latitude, longitude, km


def distance_km(latitude1: float, longitude1: float, latitude2: float, longitude2: float) -> float:
    """Return the great-circle distance in km between two places in degrees (haversine formula)."""
    a, b = math.radians(latitude1), math.radians(latitude2)
    half = math.sin((b - a) / 2) ** 2
    half += math.cos(a) * math.cos(b) * math.sin(math.radians(longitude2 - longitude1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def apply_filters(catalog: Catalog, filters: Filters) -> None:
    """Fill the temporary table `allowed (id)` with the shown files that satisfy the filters.

    Raises BadQuery, quoting SQLite, if `where` is invalid.
    """
    register_functions(catalog)
    condition, parameters = filters.condition()
    catalog.db.execute("DROP TABLE IF EXISTS temp.allowed")
    catalog.db.execute("CREATE TEMP TABLE allowed (id INTEGER PRIMARY KEY)")
    with catalog.db.atomic():
        # One at a time: a folder may have a thousand recorded paths, and SQLite limits the depth of expressions.
        for place, values in [where_at_or_below(folder, "images.path") for folder in filters.under] or [("1", [])]:
            sql = f"INSERT OR IGNORE INTO temp.allowed SELECT id FROM images WHERE shown AND {place} AND {condition}"
            catalog.db.execute(sql, [*values, *parameters])
        if filters.where is not None:
            ids = _ids_where(catalog, filters.where)
            catalog.db.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (id INTEGER PRIMARY KEY)")
            catalog.db.execute("DELETE FROM temp.wanted")
            catalog.db.conn.executemany("INSERT INTO temp.wanted VALUES (?)", ((i,) for i in ids))
            catalog.db.execute("DELETE FROM temp.allowed WHERE id NOT IN (SELECT id FROM temp.wanted)")


def register_functions(catalog: Catalog) -> None:
    """Define the SQL functions that `Filters.condition` uses."""
    catalog.db.conn.create_function("clipkit_km", 4, _km, deterministic=True)
    catalog.db.conn.create_function("clipkit_fold", 1, _fold, deterministic=True)  # SQLite's lower() is ASCII only


IS_ALLOWED = "images.id IN (SELECT id FROM temp.allowed)"
"""SQL condition over `images`: the file passed the filters of the last `apply_filters`."""


def allowed_embedding_ids(catalog: Catalog, space: str) -> np.ndarray:
    """Return the ids, int64 (n,), of the space's embeddings that belong to a file in the table `allowed`."""
    # CROSS JOIN fixes the join order: SQLite would otherwise scan all embeddings even for a few files.
    rows = catalog.db.execute(
        "SELECT DISTINCT embeddings.id FROM temp.allowed CROSS JOIN images ON images.id = allowed.id"
        " CROSS JOIN embeddings ON embeddings.hash = images.hash AND embeddings.space = ? ORDER BY embeddings.id",
        [space],
    )
    return np.fromiter((row[0] for row in rows), np.int64)


def _time_condition(moment: date | datetime, comparison: str) -> tuple[str, list]:
    """Return the SQL condition that a picture's time compares to `moment` as given, and its parameters."""
    if not isinstance(moment, datetime):
        return f"images.taken_at {comparison} ?", [moment.isoformat()]
    local = moment.replace(tzinfo=None)  # in the format of `taken_at`, so that text comparison orders by time
    if moment.tzinfo is None:
        return f"images.taken_at {comparison} ?", [local.isoformat()]
    # Not moment.timestamp(): it overflows within a day of the years 1 and 9999.
    instant = (local - datetime(1970, 1, 1) - (moment.utcoffset() or timedelta())).total_seconds()
    sql = (
        f"CASE WHEN images.utc_offset IS NULL THEN images.taken_at {comparison} ?"
        f" ELSE CAST(strftime('%s', images.taken_at || images.utc_offset) AS INTEGER) {comparison} ? END"
    )
    return sql, [local.isoformat(), instant]


def _km(latitude: float | None, longitude: float | None, to_latitude: float, to_longitude: float) -> float | None:
    if latitude is None or longitude is None:
        return None
    return distance_km(latitude, longitude, to_latitude, to_longitude)


def _fold(text: str | None) -> str | None:
    return None if text is None else text.casefold()


def _ids_where(catalog: Catalog, expression: str) -> set[int]:
    """Run the user's expression on a connection that can only read the table `images`."""
    connection = sqlite3.connect(catalog.uri, uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)
    deadline = time.monotonic() + WHERE_TIMEOUT

    def authorise(action: int, table: str | None, *_: object) -> int:
        reading = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE)
        reading |= action == sqlite3.SQLITE_READ and table == "images"
        reading |= action == sqlite3.SQLITE_FUNCTION and _[0] != "load_extension"
        return sqlite3.SQLITE_OK if reading else sqlite3.SQLITE_DENY

    try:
        columns = [row[1] for row in connection.execute("PRAGMA table_info (images)")]
        connection.execute("PRAGMA query_only = ON")
        connection.set_authorizer(authorise)
        connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
        # The line break ends a trailing comment in the expression.
        ids = {row[0] for row in connection.execute(f"SELECT id FROM images WHERE ({expression}\n)")}
        if not all(isinstance(i, int) for i in ids):  # the expression closed the bracket and added a UNION
            raise BadQuery("--where must be a single expression")
        return ids
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        if "interrupted" in said:
            raise BadQuery(f"--where took longer than {WHERE_TIMEOUT:g} s: {' '.join(expression.split())}") from None
        if "prohibited" in said or "not authorized" in said:
            raise BadQuery(f"--where may only read the columns of images ({', '.join(columns)})") from None
        raise BadQuery(f"--where: {said}; the columns are {', '.join(columns)}") from None
    finally:
        connection.close()
