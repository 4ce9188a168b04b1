"""Metadata of RAW files in every container, also if the preview has none or is too small."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.images.decoding import open_picture
from clipkit.images.metadata_record import Metadata
from clipkit.images.raw_metadata import read_raw_metadata

from . import raw_containers
from .make_files import SHARED, corners, dng

CONTAINERS = {name: getattr(raw_containers, name)() for name in ("rw2", "orf", "mrw", "raf", "cr3", "crw")}


@pytest.mark.parametrize("name", ["rw2", "orf", "mrw", "raf", "cr3"])
def test_the_exif_of_a_raw_file_is_read(name: str) -> None:
    read = read_raw_metadata(io.BytesIO(CONTAINERS[name]))
    assert (read.taken_at, read.camera, read.lens) == ("2021-02-03T04:05:06+01:00", "Acme One", "Acme 50mm F1.8")


def test_a_cr3_has_its_place_and_title_in_separate_blocks() -> None:
    read = read_raw_metadata(io.BytesIO(CONTAINERS["cr3"]))
    assert read.latitude == pytest.approx(48.8567, abs=1e-4) and read.longitude == pytest.approx(-2.3522, abs=1e-4)
    assert read.title == "A fair"


def test_a_crw_has_records_instead_of_exif() -> None:
    read = read_raw_metadata(io.BytesIO(CONTAINERS["crw"]))
    assert (read.taken_at, read.camera) == ("2021-02-03T04:05:06", "Canon PowerShot G1")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(CONTAINERS)), st.data())
def test_corrupt_files_yield_empty_fields_and_terminate(name: str, data: st.DataObject) -> None:
    content = bytearray(CONTAINERS[name])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    assert isinstance(read_raw_metadata(io.BytesIO(bytes(content[:cut]))), Metadata)
    assert isinstance(read_raw_metadata(io.BytesIO(bytes(content))), Metadata)


def test_a_dng_with_sensor_data_in_its_first_directory_keeps_its_metadata(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    details = [(0x9003, "s", b"2018:03:25 02:30:00\0"), (0x9011, "s", b"+01:00\0"), (0xA434, "s", b"Hand 50mm\0")]
    path = tmp_path / "phone.dng"
    path.write_bytes(dng(corners(128, 96), details=details))
    read = open_picture(path, shortest_side=64).metadata
    assert (read.taken_at, read.camera, read.lens) == ("2018-03-25T02:30:00+01:00", "Hand Made", "Hand 50mm")


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the shared cases are not here")
def test_a_dng_as_phones_write_it() -> None:
    pytest.importorskip("rawpy")
    read = open_picture(SHARED / "cases" / "dng_gps_camera.dng", shortest_side=64).metadata
    assert (read.camera, read.taken_at) == ("Acme Cam", "2018-03-25T02:30:00+01:00")
    assert read.latitude == pytest.approx(48.8567, abs=1e-4) and read.longitude == pytest.approx(2.3522, abs=1e-4)
