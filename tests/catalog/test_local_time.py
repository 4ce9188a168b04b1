"""Local time and UTC offset: columns, filters, and the migration of older libraries."""

from __future__ import annotations

import sqlite3

import pytest
from sqlite_utils import Database

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.filters import Filters, apply_filters, parse_day
from clipkit.catalog.info import library_info
from clipkit.catalog.migrations import migrations

from .samples import DIMENSION, SPACE, photo, put

FILES = [
    photo("/p/new-york.jpg", "ny", taken_at="2019-05-04T23:30:00", utc_offset="-05:00"),
    photo("/p/kolkata.jpg", "ko", taken_at="2019-05-05T10:00:00", utc_offset="+05:30"),
    photo("/p/unknown.jpg", "un", taken_at="2019-05-05T04:15:00"),
    photo("/p/never.jpg", "ne"),
]


def passing(catalog: Catalog, **given: str) -> set[str]:
    apply_filters(catalog, Filters(**{name: parse_day(text) for name, text in given.items()}))
    sql = "SELECT path FROM images WHERE id IN (SELECT id FROM temp.allowed)"
    return {row[0].removeprefix("/p/").removesuffix(".jpg") for row in catalog.db.execute(sql)}


@pytest.mark.parametrize(
    ("after", "before", "expected"),
    [
        # Local time.
        ("2019-05-05", None, {"kolkata", "unknown"}),
        ("2019-05-04T23:30", "2019-05-05", {"new-york"}),
        # Instants: New York and Kolkata are both at 04:30 UTC; the unknown zone is taken to be the query's.
        ("2019-05-05T04:00+00:00", None, {"new-york", "kolkata", "unknown"}),
        ("2019-05-05T04:30Z", None, {"new-york", "kolkata"}),
        ("2019-05-05T04:30:01Z", None, set()),
        ("2019-05-05T04:00Z", "2019-05-05T04:30Z", {"unknown"}),
        ("2019-05-05T10:00+05:30", None, {"new-york", "kolkata"}),
        (None, "2019-05-04T23:30-05:00", set()),
        (None, "2019-05-04T23:30:00.5-05:00", {"new-york", "kolkata"}),
        ("0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00", {"new-york", "kolkata", "unknown"}),
    ],
)
def test_a_time_with_a_zone_is_an_instant_and_one_without_is_local(catalog, after, before, expected):
    put(catalog, *FILES)
    given = {name: text for name, text in (("after", after), ("before", before)) if text}
    assert passing(catalog, **given) == expected


def test_the_hour_is_local(catalog):
    put(catalog, *FILES)
    apply_filters(catalog, Filters(where="strftime('%H', taken_at) = '23' AND utc_offset = '-05:00'"))
    assert catalog.db.execute("SELECT COUNT(*) FROM temp.allowed").fetchone()[0] == 1


def test_an_older_library_is_migrated(tmp_path):
    path = tmp_path / "catalog.db"
    db = Database(sqlite3.connect(path))
    db.execute("PRAGMA journal_mode = WAL")
    migrations.apply(db, stop_before="0005_local_time")
    assert migrations.pending(db) == [name for name in migrations.names if name >= "0005"]
    times = ["2019-05-04T23:30:00-05:00", "2019-05-05T10:00:00+05:30", "2019-05-05T04:15:00", None]
    for number, taken_at in enumerate(times):
        db.execute(
            "INSERT INTO images (path, size, mtime_ns, hash, taken_at, indexed_at) VALUES (?, 1, 1, ?, ?, '')",
            [f"/p/{number}.jpg", str(number), taken_at],
        )
    db.conn.commit()
    db.close()
    with Catalog.open(path) as catalog:
        catalog.add_space(SPACE, DIMENSION)
        rows = catalog.db.execute("SELECT taken_at, utc_offset FROM images ORDER BY path").fetchall()
        assert rows == [
            ("2019-05-04T23:30:00", "-05:00"),
            ("2019-05-05T10:00:00", "+05:30"),
            ("2019-05-05T04:15:00", None),
            (None, None),
        ]
        assert (library_info(catalog).first_taken, library_info(catalog).last_taken) == (
            "2019-05-04T23:30:00",
            "2019-05-05T10:00:00",
        )
