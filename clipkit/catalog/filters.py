"""Which files a search may return: folders, time, camera, place, or an SQL expression of the user's own."""

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
"""How long an expression of the user's may run."""
MAX_VALUE_BYTES, MAX_PATTERN_BYTES = 4_000_000, 500
"""Bytes of a value, and of a pattern of LIKE or GLOB, in such an expression: SQLite cannot be stopped within one."""


@dataclass(frozen=True)
class Filters:
    """All that are given must hold.

    `under`: folders or files; `Library.search` takes any name of theirs. `after` (from it on) and `before` (earlier
    than it): a date or a datetime. Without a zone they are compared with the local time of the picture; with one they
    are instants, and a picture whose offset from UTC is not known is taken to be of that zone. Pictures without a time
    pass neither. `camera`: part of its name, in any case. `near`: latitude, longitude in degrees and a radius in km.
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
        """Return the SQL condition over `images` and its parameters; `apply_filters` checks `under` and `where`."""
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
    """Read a date such as 2024-06-01, a month 2024-06, a year 2024, or a time 2024-06-01T12:30, with a zone
    2024-06-01T12:30+02:00; raises BadQuery."""
    try:
        if re.fullmatch(r"\d{4}", text):
            return date(int(text), 1, 1)
        if re.fullmatch(r"\d{4}-\d{2}", text):
            return date.fromisoformat(f"{text}-01")
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(f"{text!r} is no date; write it as 2024-06-01 or 2024-06-01T12:30") from None


def parse_near(text: str) -> tuple[float, float, float]:
    """ "LAT,LON,KM" in degrees and kilometres; raises BadQuery."""
    try:
        latitude, longitude, km = (float(part) for part in text.split(","))
    except ValueError:
        raise BadQuery(f"{text!r} is no place; write LATITUDE,LONGITUDE,KM as in 48.86,2.35,10") from None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= km < math.inf):
        raise BadQuery("latitudes go from -90 to 90, longitudes from -180 to 180, and the radius is 0 km or more")
    return latitude, longitude, km


def distance_km(latitude1: float, longitude1: float, latitude2: float, longitude2: float) -> float:
    """Great-circle distance of two places in degrees, by the haversine formula, in km."""
    a, b = math.radians(latitude1), math.radians(latitude2)
    half = math.sin((b - a) / 2) ** 2
    half += math.cos(a) * math.cos(b) * math.sin(math.radians(longitude2 - longitude1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def apply_filters(catalog: Catalog, filters: Filters) -> None:
    """Fills the temporary table `allowed (id)` with the shown files for which the filters hold.

    Raises BadQuery, with SQLite's own words, for a `where` that does not hold water.
    """
    catalog.db.conn.create_function("clipkit_km", 4, _km, deterministic=True)
    catalog.db.conn.create_function("clipkit_fold", 1, _fold, deterministic=True)  # SQLite's lower() knows ASCII only
    condition, parameters = filters.condition()
    catalog.db.execute("DROP TABLE IF EXISTS temp.allowed")
    catalog.db.execute("CREATE TEMP TABLE allowed (id INTEGER PRIMARY KEY)")
    with catalog.db.atomic():
        # One by one: a library may know a folder by a thousand names, and SQLite's expressions go only so deep.
        for place, values in [where_at_or_below(folder, "images.path") for folder in filters.under] or [("1", [])]:
            sql = f"INSERT OR IGNORE INTO temp.allowed SELECT id FROM images WHERE shown AND {place} AND {condition}"
            catalog.db.execute(sql, [*values, *parameters])
        if filters.where is not None:
            ids = _ids_where(catalog, filters.where)
            catalog.db.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (id INTEGER PRIMARY KEY)")
            catalog.db.execute("DELETE FROM temp.wanted")
            catalog.db.conn.executemany("INSERT INTO temp.wanted VALUES (?)", ((i,) for i in ids))
            catalog.db.execute("DELETE FROM temp.allowed WHERE id NOT IN (SELECT id FROM temp.wanted)")


IS_ALLOWED = "images.id IN (SELECT id FROM temp.allowed)"
"""The condition over `images` that the filters of the last `apply_filters` hold."""


def allowed_embedding_ids(catalog: Catalog, space: str) -> np.ndarray:
    """Ids, int64 (n,), of the space's embeddings that some file in the table `allowed` holds."""
    # CROSS JOIN keeps SQLite from starting at the embeddings: few files must not cost a look at all of them.
    rows = catalog.db.execute(
        "SELECT DISTINCT embeddings.id FROM temp.allowed CROSS JOIN images ON images.id = allowed.id"
        " CROSS JOIN embeddings ON embeddings.hash = images.hash AND embeddings.space = ? ORDER BY embeddings.id",
        [space],
    )
    return np.fromiter((row[0] for row in rows), np.int64)


def _time_condition(moment: date | datetime, comparison: str) -> tuple[str, list]:
    """Return the SQL condition that a picture's time compares so with a moment, and its parameters."""
    if not isinstance(moment, datetime):
        return f"images.taken_at {comparison} ?", [moment.isoformat()]
    local = moment.replace(tzinfo=None)  # written as `taken_at` is, so that text compares as time does
    if moment.tzinfo is None:
        return f"images.taken_at {comparison} ?", [local.isoformat()]
    # Not by moment.timestamp(), which overflows within a day of the years 1 and 9999.
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
    """Runs the user's expression on a connection that can do nothing but read the table of images."""
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
        # The line break ends a comment that the expression may close with.
        ids = {row[0] for row in connection.execute(f"SELECT id FROM images WHERE ({expression}\n)")}
        if not all(isinstance(i, int) for i in ids):  # the expression closed the bracket and went on to a UNION
            raise BadQuery("--where must be one expression")
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
