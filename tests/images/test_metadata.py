from __future__ import annotations

import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from clipkit.images.metadata import read_metadata
from clipkit.images.metadata_record import Metadata

from .make_files import SHARED, encoded, needs_shared


def with_exif(main: dict | None = None, details: dict | None = None, place: dict | None = None) -> Image.Image:
    exif = Image.Exif()
    exif.update(main or {})
    exif.get_ifd(0x8769).update(details or {})
    exif.get_ifd(0x8825).update(place or {})
    data = encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif.tobytes())
    return Image.open(io.BytesIO(data))


def position(latitude: tuple, north: str, longitude: tuple, east: str) -> dict:
    return {1: north, 2: tuple(map(IFDRational, latitude)), 3: east, 4: tuple(map(IFDRational, longitude))}


def test_a_full_set() -> None:
    read = read_metadata(
        with_exif(
            {0x010F: "Canon", 0x0110: "Canon EOS 5D", 0x010E: "Z\u00fcrich\n  am See".encode()},
            {0x9003: "2023:07:14 18:30:05", 0x9011: "+02:00", 0xA434: "EF 50mm"},
            position((47, 22, 30), "N", (8, 32, 24), "W"),
        )
    )
    assert (read.taken_at, read.camera, read.lens) == ("2023-07-14T18:30:05+02:00", "Canon EOS 5D", "EF 50mm")
    assert read.description == "Z\u00fcrich am See"
    assert read.latitude == pytest.approx(47.375) and read.longitude == pytest.approx(-8.54)


@needs_shared
def test_a_real_camera() -> None:
    with Image.open(SHARED / "formats" / "tree.webp") as image:
        read = read_metadata(image)
    assert read.camera == "SONY ILCE-7M3" and read.taken_at == "2022-02-19T14:48:13+03:00"


@pytest.mark.parametrize(
    "make, model, camera",
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("OLYMPUS IMAGING CORP.", "E-M5", "OLYMPUS E-M5"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("", "X100", "X100"),
        ("Sony", "", "Sony"),
        ("  ", "\0", None),
    ],
)
def test_cameras(make: str, model: str, camera: str | None) -> None:
    assert read_metadata(with_exif({0x010F: make, 0x0110: model})).camera == camera


@pytest.mark.parametrize(
    "text",
    ["0000:00:00 00:00:00", "2023:02:30 10:00:00", "1700:01:01 00:00:00", "9999:01:01 00:00:00", "yesterday", ""],
)
def test_invalid_times_are_ignored(text: str) -> None:
    assert read_metadata(with_exif(details={0x9003: text})).taken_at is None
    fallback = read_metadata(with_exif({0x0132: "2020:01:02 03:04:05"}, {0x9003: text, 0x9010: "nonsense"}))
    assert fallback.taken_at == "2020-01-02T03:04:05"


@pytest.mark.parametrize(
    "place",
    [
        position((91, 0, 0), "N", (8, 0, 0), "E"),
        position((47, 0, 0), "N", (181, 0, 0), "E"),
        position((0, 0, 0), "N", (0, 0, 0), "E"),
        {1: "N", 2: (IFDRational(0, 0),) * 3, 3: "E", 4: (IFDRational(8),) * 3},
        {2: (IFDRational(47),) * 3, 4: (IFDRational(8),) * 3},
        {1: "N", 2: (IFDRational(47),) * 3},
        {},
    ],
)
def test_invalid_places_are_ignored(place: dict) -> None:
    read = read_metadata(with_exif(place=place))
    assert (read.latitude, read.longitude) == (None, None)


def test_long_descriptions_are_cut() -> None:
    read = read_metadata(with_exif({0x010E: "word " * 5000}))
    assert read.description is not None and len(read.description) <= 500


anything = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.booleans(),
    st.tuples(st.floats(), st.text()),
    st.lists(st.integers()),
    st.builds(IFDRational, st.integers(), st.integers()),
    st.tuples(*[st.builds(IFDRational, st.integers(), st.integers())] * 3),
    st.tuples(),
)


class Pretended:
    """An image whose EXIF has the given Python values, such as Pillow returns for corrupt files."""

    def __init__(self, main: dict, details: object, place: object) -> None:
        self.exif = Image.Exif()
        self.exif.update(main)
        self.exif._ifds = {0x8769: details, 0x8825: place}

    def getexif(self) -> Image.Exif:
        return self.exif


tags = st.sampled_from([0x010F, 0x0110, 0x010E, 0x0132, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0xA434, 1, 2, 3, 4])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(tags, anything), *[st.one_of(st.dictionaries(tags, anything), anything)] * 2)
def test_any_values_yield_valid_fields(main: dict, details: object, place: object) -> None:
    read = read_metadata(Pretended(main, details, place))  # type: ignore[arg-type]
    for text in (read.taken_at, read.camera, read.lens, read.description):
        assert text is None or (text.strip() and text.isprintable() and text.encode())
    if read.latitude is not None:
        assert math.isfinite(read.latitude) and abs(read.latitude) <= 90 and abs(read.longitude) <= 180


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_yield_valid_fields(data: bytes) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0" + data
    assert isinstance(read_metadata(image), Metadata)
