"""Filters select the right files, and a user's SQL expression can only read."""

from __future__ import annotations

import math
import os
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipkit.catalog import filters as module
from clipkit.catalog.filters import (
    EARTH_RADIUS_KM,
    IS_ALLOWED,
    Filters,
    allowed_embedding_ids,
    apply_filters,
    distance_km,
    parse_day,
    parse_near,
)
from clipkit.errors import BadQuery

from .samples import SPACE, copy, id_of, paths, photo, put

RAW = os.fsdecode(b"/p/\xff/raw.jpg")
FILES = [
    photo(
        "/p/paris.jpg",
        "paris",
        taken_at="2023-07-14T10:00:00+02:00",
        camera="Canon EOS R5",
        latitude=48.8566,
        longitude=2.3522,
    ),
    photo("/p/fiji.jpg", "fiji", taken_at="2024-01-31T23:59:59", camera="NIKON Z 8", latitude=-17.0, longitude=179.9),
    photo("/p/samoa.jpg", "samoa", taken_at="2024-02-01T00:00:00", camera="ÉCLAIR é", latitude=-17.0, longitude=-179.9),
    photo("/p/north.jpg", "north", taken_at="2022-12-31T12:00:00", latitude=89.99, longitude=10.0),
    photo("/p/plain.jpg", "plain"),
    photo("/q/half.jpg", "half", camera="Canon", latitude=48.0),
    photo(RAW, "raw", camera='it\'s; a -- "box"'),
]
ALL = {str(image.path) for image in FILES}


@pytest.fixture
def album(catalog):
    put(catalog, *FILES)
    return catalog


def passing(catalog, **given) -> set[str]:
    """Return the files that pass the filters, after checking that the embeddings are theirs."""
    apply_filters(catalog, Filters(**given))
    by_id = catalog.files_by_embedding(catalog.searchable_ids(SPACE).tolist(), IS_ALLOWED)
    assert set(allowed_embedding_ids(catalog, SPACE).tolist()) == set(by_id)
    return {str(row.path) for rows in by_id.values() for row in rows}


def stems(found: set[str]) -> set[str]:
    return {Path(path).stem for path in found}


def refused(catalog, expression: str) -> str:
    with pytest.raises(BadQuery) as error:
        apply_filters(catalog, Filters(where=expression))
    assert "\n" not in str(error.value) and str(error.value)
    return str(error.value)


# --- one at a time, and together ---


def test_no_filter(album):
    assert not Filters() and Filters(camera="x") and Filters(where="")
    assert passing(album) == ALL


def test_under(album):
    assert stems(passing(album, under=(Path("/q"),))) == {"half"}
    assert stems(passing(album, under=(Path("/p/fiji.jpg"), Path("/q")))) == {"fiji", "half"}
    assert passing(album, under=(Path(RAW).parent,)) == {RAW}
    assert passing(album, under=(Path("/p/fiji"),)) == set()
    assert passing(album, under=(Path("/"),)) == ALL


def test_a_copy_elsewhere_is_another_file_with_the_same_embedding(album):
    put(album, copy("/z/paris again.jpg", "paris"))
    assert passing(album, under=(Path("/z"),)) == {"/z/paris again.jpg"}
    assert allowed_embedding_ids(album, SPACE).tolist() == [id_of(album, "paris")]


@pytest.mark.parametrize(
    ("after", "before", "expected"),
    [
        ("2024-02-01", None, {"samoa"}),
        (None, "2024-02-01", {"paris", "fiji", "north"}),
        ("2023", "2024", {"paris"}),
        ("2024-01", "2024-02", {"fiji"}),
        ("2023-07-14T10:00", "2023-07-14T10:00:01", {"paris"}),
        ("2023-07-14T10:00:01", "2023-07-15", set()),
        ("2024-01-31T23:59:59", None, {"fiji", "samoa"}),
        (None, "2024-01-31T23:59:59", {"paris", "north"}),
        ("2025", "2024", set()),
    ],
)
def test_time(album, after, before, expected):
    given = {"after": after and parse_day(after), "before": before and parse_day(before)}
    assert stems(passing(album, **given)) == expected


def test_camera_in_any_case(album):
    for name in ("canon", "CANON", "Canon"):
        assert stems(passing(album, camera=name)) == {"paris", "half"}
    assert stems(passing(album, camera="eos r")) == {"paris"}
    assert stems(passing(album, camera="éclair É")) == {"samoa"}
    assert stems(passing(album, camera='it\'s; a -- "BOX"')) == {"raw"}
    assert passing(album, camera="%") == set()


def test_near(album):
    assert stems(passing(album, near=(48.85, 2.35, 2))) == {"paris"}
    assert passing(album, near=(48.85, 2.35, 0)) == set()
    assert stems(passing(album, near=(48.8566, 2.3522, 0))) == {"paris"}


def test_near_across_the_date_line(album):
    assert stems(passing(album, near=(-17.0, 180.0, 12))) == {"fiji", "samoa"}
    assert stems(passing(album, near=(-17.0, -179.95, 6))) == {"samoa"}


def test_near_a_pole(album):
    assert stems(passing(album, near=(90.0, -170.0, 2))) == {"north"}
    assert stems(passing(album, near=(89.99, -170.0, 3))) == {"north"}


def test_near_matches_everything_with_a_place(album):
    assert stems(passing(album, near=(0.0, 0.0, 20100))) == {"paris", "fiji", "samoa", "north"}


def test_all_together(album):
    given = {
        "under": (Path("/p"),),
        "after": date(2023, 1, 1),
        "before": datetime(2024, 1, 31, 23, 59, 59),
        "camera": "eos",
        "near": (48.0, 2.0, 200.0),
        "where": "width = 4 AND format = 'JPEG'",
    }
    assert stems(passing(album, **given)) == {"paris"}
    for name, other in [
        ("under", (Path("/q"),)),
        ("after", date(2024, 1, 1)),
        ("before", date(2023, 1, 1)),
        ("camera", "nikon"),
        ("near", (0.0, 0.0, 1.0)),
        ("where", "width = 5"),
    ]:
        assert passing(album, **{**given, name: other}) == set()


def test_the_last_filters_apply(album):
    assert passing(album, camera="nikon", where="1") != passing(album, camera="canon", where="1")
    assert passing(album) == ALL


# --- parsing ---


def test_days():
    assert parse_day("2024") == date(2024, 1, 1)
    assert parse_day("2024-06") == date(2024, 6, 1)
    assert parse_day("2024-06-09") == date(2024, 6, 9)
    assert parse_day("2024-06-09T12:30") == parse_day("2024-06-09 12:30:00") == datetime(2024, 6, 9, 12, 30)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2024-13", "2024-02-30", "0000", "2024-6-1", "01.06.2024", "24", "2024-06-01T25:00"]
    + ["2024\n", "2024-06-01;", "\udcff", "٢٠٢٤-٠٦"],
)
def test_invalid_days(text):
    with pytest.raises(BadQuery) as error:
        parse_day(text)
    assert "\n" not in str(error.value) and "2024-06-01" in str(error.value)


def test_places():
    assert parse_near("48.86, 2.35,10") == (48.86, 2.35, 10.0)
    assert parse_near("-90,180,0") == (-90.0, 180.0, 0.0)


@pytest.mark.parametrize(
    "text",
    ["", "48.86", "48,2", "48,2,1,1", "a,b,c", "91,0,1", "0,181,1", "0,0,-1", "nan,0,1", "0,nan,1", "0,0,nan"]
    + ["0,0,inf", "inf,0,1", "0\n,x,1"],
)
def test_invalid_places(text):
    with pytest.raises(BadQuery) as error:
        parse_near(text)
    assert "\n" not in str(error.value)


latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)


@given(latitudes, longitudes, latitudes, longitudes)
def test_distances(latitude1, longitude1, latitude2, longitude2):
    there = distance_km(latitude1, longitude1, latitude2, longitude2)
    assert there == distance_km(latitude2, longitude2, latitude1, longitude1)
    assert 0 <= there <= math.pi * EARTH_RADIUS_KM * (1 + 1e-15)
    assert distance_km(latitude1, longitude1, latitude1, longitude1) == 0


def test_known_distances():
    assert distance_km(48.8566, 2.3522, 51.5074, -0.1278) == pytest.approx(343.6, abs=0.5)
    assert distance_km(0, 0, 0, 180) == pytest.approx(math.pi * EARTH_RADIUS_KM)
    assert distance_km(0, 179.5, 0, -179.5) == pytest.approx(111.195, abs=0.01)
    assert distance_km(90, 0, 90, 123) == pytest.approx(0, abs=1e-6)


# --- expressions ---


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("latitude IS NULL AND longitude IS NULL", {"plain", "raw"}),
        ("camera LIKE '%canon%' OR camera GLOB 'NIKON*'", {"paris", "half", "fiji"}),
        ("width * height > 11 AND taken_at BETWEEN '2024' AND '2025'", {"fiji", "samoa"}),
        ("camera = 'NIKON Z 8' -- my good one", {"fiji"}),
        ("camera = 'NIKON Z 8' /* my good one */", {"fiji"}),
        ("latitude = (SELECT MAX(latitude) FROM images)", {"north"}),
        ("id IN (SELECT id FROM images AS other WHERE other.latitude < 0)", {"fiji", "samoa"}),
        ("strftime('%m', taken_at) = '07'", {"paris"}),
        ("camera IS NOT NULL\n AND\n latitude < 0", {"fiji", "samoa"}),
        ("NULL", set()),
        ("camera = 'a;b'", set()),
        ("images.camera = 'Canon'", {"half"}),
    ],
)
def test_where(album, expression, expected):
    assert stems(passing(album, where=expression)) == expected


def test_an_unknown_column_lists_the_columns(album):
    said = refused(album, "colour = 'red'")
    assert "colour" in said
    assert all(column in said for column in ("taken_at", "camera", "latitude", "width", "path"))


HARMFUL = [
    "1); DELETE FROM images; --",
    "1; DROP TABLE images",
    "1); SELECT (1",
    ";",
    "1);",
    "1) AND (ATTACH 'x.db' AS x",
    "ATTACH DATABASE 'evil.db' AS evil",
    "PRAGMA journal_mode = DELETE",
    "1 = (SELECT * FROM pragma_database_list)",
    "id IN (SELECT cid FROM pragma_table_info('images'))",
    "INSERT INTO images (path) VALUES ('x')",
    "DELETE FROM images",
    "UPDATE images SET path = 'x'",
    "(DELETE FROM images RETURNING 1)",
    "id IN (DELETE FROM images RETURNING id)",
    "id IN (WITH gone AS (DELETE FROM images RETURNING id) SELECT id FROM gone)",
    "EXISTS (INSERT INTO failures VALUES (1, 1, 1, 1, 1, 1) RETURNING 1)",
    "REPLACE INTO images VALUES (1)",
    "1) RETURNING (1",
    "VACUUM",
    "1) VACUUM INTO 'x'",
    "id IN (SELECT id FROM embeddings)",
    "(SELECT COUNT(*) FROM embeddings) > 0",
    "EXISTS (SELECT 1 FROM failures)",
    "id = (SELECT 1 FROM roots)",
    "1) UNION SELECT id FROM embeddings WHERE (1",
    "EXISTS (SELECT sql FROM sqlite_master)",
    "EXISTS (SELECT 1 FROM main.sqlite_schema)",
    "EXISTS (SELECT * FROM sqlite_sequence)",
    "EXISTS (SELECT * FROM temp.sqlite_master)",
    "EXISTS (SELECT * FROM temp.seen)",
    "id IN (SELECT images.id FROM images JOIN spaces)",
    "id IN (WITH images AS (SELECT * FROM main.embeddings) SELECT id FROM images)",
    "load_extension('evil.so')",
    "LOAD_EXTENSION('evil.so', 'main') IS NULL",
    "\"load_extension\"('evil')",
    "1) UNION SELECT path FROM images WHERE (1",
    "1) UNION SELECT NULL FROM images WHERE (1",
    "1) UNION SELECT randomblob(8) WHERE (1",
    "readfile('/etc/passwd') IS NULL",
    "writefile('x', 'y')",
    "1 /* never closed",
    "1) --",
    "(1",
    "1)",
    "'never closed",
    '"never closed',
    "",
    " ",
    "\n",
    "camera = ",
    "?",
    ":name",
    "camera = 'a\0b'",
    "camera = '\udcff'",
    "\0",
    "no_such_function(1)\n= 1",
    "'line\nbreak",
]


@pytest.mark.parametrize("expression", HARMFUL)
def test_harmful_or_invalid_expressions_are_rejected_and_nothing_is_written(album, tmp_path, expression):
    album.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before, dump = album.path.read_bytes(), list(album.db.conn.iterdump())
    refused(album, expression)
    assert album.path.read_bytes() == before
    assert list(album.db.conn.iterdump()) == dump
    assert not list(tmp_path.rglob("evil*")) and not Path("x").exists() and not Path("x.db").exists()
    assert passing(album) == ALL


def test_unbalanced_brackets_cannot_escape_the_query(album):
    apply_filters(album, Filters(where="1) UNION ALL SELECT id FROM images WHERE (1"))
    assert passing(album) == paths(album)


ENDLESS = "(WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT MAX(n) FROM c) > 0"


CROSSED = "(SELECT MAX(a.id + b.id) FROM " + ", ".join(f"images AS {name}" for name in "abcdefghijkl") + ") > 0"


@pytest.mark.parametrize("expression", [ENDLESS, f"id\n= {ENDLESS}", CROSSED])
def test_an_endless_expression_times_out(album, monkeypatch, expression):
    monkeypatch.setattr(module, "WHERE_TIMEOUT", 0.05)
    assert "longer than 0.05 s" in refused(album, expression)
    assert passing(album, where="1") == ALL


def test_a_single_operation_is_limited_in_time_and_memory(album):
    assert "big" in refused(album, "length(randomblob(900000000)) > 0")
    assert "too complex" in refused(album, "path LIKE '" + "%a" * 400 + "'")


def test_where_reads_the_last_commit(album):
    assert stems(passing(album, where="camera = 'new'")) == set()
    put(album, photo("/p/new.jpg", "new", camera="new"))
    assert stems(passing(album, where="camera = 'new'")) == {"new"}


def test_special_characters_in_the_library_path(tmp_path):
    from clipkit.catalog.catalog import Catalog

    for name in ("100% #1?mode=rwc&x", "it's é", os.fsdecode(b"\xff")):
        with Catalog.open(tmp_path / name / "catalog.db", create=True) as catalog:
            catalog.add_space(SPACE, 8)
            put(catalog, photo("/p/a.jpg", "aa"))
            assert stems(passing(catalog, where="width = 4")) == {"a"}
