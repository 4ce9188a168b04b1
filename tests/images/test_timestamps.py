"""Timestamps as cameras and programs write them."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.images.timestamps import parse_offset, parse_timestamp


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2004: 6: 1 9: 5: 3", "2004-06-01T09:05:03"),
        ("2004:6:1 9:5:3", "2004-06-01T09:05:03"),
        ("2019:05:04", "2019-05-04T00:00:00"),
        ("2019:05:04 10:11", "2019-05-04T10:11:00"),
        ("2019:05:04 10:11:", "2019-05-04T10:11:00"),
        ("2019:05:04 : :", "2019-05-04T00:00:00"),
        ("2019:05:04 24:61:00", "2019-05-04T00:00:00"),
        ("2019-05-04T10:11:12.345", "2019-05-04T10:11:12"),
        ("2019/05/04 10:11:12", "2019-05-04T10:11:12"),
        ("2019.05.04", "2019-05-04T00:00:00"),
        ("20190504", "2019-05-04T00:00:00"),
        ("20190504T101112-0500", "2019-05-04T10:11:12-05:00"),
        ("2019-05-04T10:11:12Z", "2019-05-04T10:11:12+00:00"),
        ("2019-05-04T10:11+05:30", "2019-05-04T10:11:00+05:30"),
        ("2019:05:04 10:11:12 +02:00", "2019-05-04T10:11:12+02:00"),
        ("2019:05:04 01:02:03 PM", "2019-05-04T13:02:03"),
        ("2019:05:04 12:02:03 a.m.", "2019-05-04T00:02:03"),
        ("2019:05:04 10:11:12 oclock", "2019-05-04T10:11:12"),
    ],
)
def test_valid_timestamps(text: str, expected: str) -> None:
    assert str(parse_timestamp(text)) == expected


@pytest.mark.parametrize(
    "text",
    [None, "", "2019", "2019-05", "0000:00:00 00:00:00", "2019:02:30", "1700:01:01", "9999:01:01", "yesterday"]
    + [": : : :", "04/05/2019", "19:05:04 10:11:12", "2019:05:0410:11:12", "201905041"]
    + ["\u0662\u0660\u0661\u0669:05:04"],
)
def test_invalid_timestamps(text: str | None) -> None:
    assert parse_timestamp(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("+02:00", "+02:00"), ("-0330", "-03:30"), ("+2", "+02:00"), ("UTC-5", "-05:00"), ("Z", "+00:00"), ("", None)]
    + [("+15:00", None), ("+14:30", None), ("+02:60", None), ("02:00", None), ("CET", None), (" +01:00 ", "+01:00")],
)
def test_offsets(text: str, expected: str | None) -> None:
    assert parse_offset(text) == expected


@settings(deadline=None)
@given(st.text(alphabet="0123456789:-/. TZ+pm", max_size=30))
def test_parsed_timestamps_are_valid_times(text: str) -> None:
    moment = parse_timestamp(" ".join(text.split()))
    if moment is not None:
        assert len(str(moment)) in (19, 25) and datetime.fromisoformat(str(moment)).year >= 1826
