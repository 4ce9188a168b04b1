"""Dates, titles and keywords from XMP and IPTC, in pictures and sidecars."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipkit.images.decoding import open_picture
from clipkit.images.metadata import read_metadata
from clipkit.images.metadata_record import Metadata
from clipkit.images.xmp import read_xmp

from .make_files import encoded
from .raw_containers import xmp

ITEMS = "<rdf:li>beach</rdf:li><rdf:li>Z\u00fcrich</rdf:li><rdf:li>beach</rdf:li>"
BAG = f"<dc:subject><rdf:Bag>{ITEMS}</rdf:Bag></dc:subject>"
LANGUAGES = '<rdf:li xml:lang="x-default">A fair</rdf:li><rdf:li xml:lang="de">Messe</rdf:li>'
ALT = f"<dc:title><rdf:Alt>{LANGUAGES}</rdf:Alt></dc:title>"


def opened(format_name: str = "JPEG", **options: object) -> Image.Image:
    return Image.open(io.BytesIO(encoded(Image.new("RGB", (16, 16)), format_name, **options)))


def exif_of(main: dict, details: dict | None = None) -> bytes:
    exif = Image.Exif()
    exif.update(main)
    exif.get_ifd(0x8769).update(details or {})
    return exif.tobytes()


def iptc(*records: tuple[int, int, bytes]) -> bytes:
    """Return a JPEG file with an APP13 segment of these records."""
    data = b"".join(b"\x1c" + struct.pack(">BBH", *record[:2], len(record[2])) + record[2] for record in records)
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(data)) + data + b"\0" * (len(data) % 2)
    segment = b"Photoshop 3.0\0" + resource
    jpeg = encoded(Image.new("RGB", (16, 16)), "JPEG")
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_inside_pictures(format_name: str) -> None:
    packet = xmp('photoshop:DateCreated="2019-05-04T23:30:00-05:00" tiff:Make="Acme" tiff:Model="One"', BAG + ALT)
    if format_name == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        image = opened("PNG", pnginfo=info)
    elif format_name == "TIFF":
        image = opened("TIFF", tiffinfo={700: packet})
    else:
        image = opened(format_name, xmp=packet)
    read = read_metadata(image)
    assert (read.taken_at, read.camera) == ("2019-05-04T23:30:00-05:00", "Acme One")
    assert (read.title, read.keywords) == ("A fair", ("beach", "Z\u00fcrich"))


def test_exif_takes_precedence_over_xmp_except_for_file_times() -> None:
    packet = xmp('exif:DateTimeOriginal="2001-01-01T00:00:00" dc:description="of XMP"')
    taken = read_metadata(opened(exif=exif_of({0x010E: "of EXIF"}, {0x9003: "2002:02:02 02:02:02"}), xmp=packet))
    assert (taken.taken_at, taken.description) == ("2002-02-02T02:02:02", "of EXIF")
    written = read_metadata(opened(exif=exif_of({0x0132: "2020:02:02 02:02:02"}), xmp=packet))
    assert (written.taken_at, written.description) == ("2001-01-01T00:00:00", "of XMP")


def test_tags_in_the_main_directory_and_windows_titles() -> None:
    tags = {0x9003: "2004: 6: 1  9: 5: 3", 0x9011: "+02:00", 0xA434: "EF 50mm"}
    title = {0x9C9B: "Fr\u00fchling\0".encode("utf-16-le"), 0x9C9E: "a;b; c\0".encode("utf-16-le")}
    read = read_metadata(opened(exif=exif_of({**tags, **title}, {0x9004: "    :  :     :  :  "})))
    assert (read.taken_at, read.lens) == ("2004-06-01T09:05:03+02:00", "EF 50mm")
    assert (read.title, read.keywords) == ("Fr\u00fchling", ("a", "b", "c"))


def test_a_time_of_the_same_day_replaces_a_day() -> None:
    day = {0x9003: "2019:05:04"}
    assert read_metadata(opened(exif=exif_of({}, day))).taken_at == "2019-05-04T00:00:00"
    same = read_metadata(opened(exif=exif_of({0x0132: "2019:05:04 10:11"}, day)))
    later = read_metadata(opened(exif=exif_of({0x0132: "2023:05:04 10:11:12"}, day)))
    assert (same.taken_at, later.taken_at) == ("2019-05-04T10:11:00", "2019-05-04T00:00:00")


def test_the_offset_may_come_from_another_tag_of_the_same_time() -> None:
    taken = {0x9003: "2019:05:04 10:11:12", 0x9010: "-05:00"}
    assert read_metadata(opened(exif=exif_of({0x0132: "2019:05:04 10:11:12"}, taken))).utc_offset == "-05:00"
    assert read_metadata(opened(exif=exif_of({0x0132: "2023:05:04 10:11:12"}, taken))).utc_offset is None


def test_places_as_text_and_with_undefined_seconds() -> None:
    read = read_xmp(xmp('exif:GPSLatitude="48,51.4N" exif:GPSLongitude="2,21,8W"'))
    assert read.latitude == pytest.approx(48.856667, abs=1e-5) and read.longitude == pytest.approx(-2.352222, abs=1e-5)
    comma = read_xmp(xmp('exif:GPSLatitude="48,8567N" exif:GPSLongitude="2,3522E"'))
    assert (comma.latitude, comma.longitude) == (None, None), "a decimal comma is not minutes"


def test_properties_of_other_pictures_in_a_packet_are_ignored() -> None:
    other = '<rdf:Description photoshop:DateCreated="1999-01-01T00:00:00"><dc:title>Other</dc:title></rdf:Description>'
    read = read_xmp(xmp("", f"<xmpMM:Pantry><rdf:Bag><rdf:li>{other}</rdf:li></rdf:Bag></xmpMM:Pantry>{BAG}"))
    assert (read.taken_at, read.title, read.keywords) == (None, None, ("beach", "Z\u00fcrich"))


def test_iptc_records() -> None:
    data = iptc(
        (1, 90, b"\x1b%G"),
        (2, 5, "M\u00fcnchen".encode()),
        (2, 25, b"fair"),
        (2, 25, b"crowd"),
        (2, 55, b"20190504"),
        (2, 60, b"233000-0500"),
        (2, 120, b"On the\rmeadow"),
    )
    read = open_picture(data).metadata
    assert (read.taken_at, read.title) == ("2019-05-04T23:30:00-05:00", "M\u00fcnchen")
    assert (read.keywords, read.description) == (("fair", "crowd"), "On the meadow")
    latin = open_picture(iptc((2, 5, "M\u00fcnchen".encode("latin-1")), (2, 55, b"20190504"))).metadata
    assert (latin.title, latin.taken_at) == ("M\u00fcnchen", "2019-05-04T00:00:00")


@pytest.mark.parametrize("name", ["a.jpg.xmp", "a.xmp", "a.XMP"])
def test_sidecars(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(Image.new("RGB", (16, 16)), "JPEG", exif=exif_of({0x010E: "own"})))
    (tmp_path / name).write_bytes(xmp('xmp:CreateDate="1987-06-05" dc:description="side"', BAG))
    read = open_picture(tmp_path / "a.jpg").metadata
    assert (read.taken_at, read.description) == ("1987-06-05T00:00:00", "own")
    assert read.keywords == ("beach", "Z\u00fcrich")
    assert open_picture((tmp_path / "a.jpg").read_bytes()).metadata.taken_at is None


def test_invalid_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    (tmp_path / "a.jpg.xmp").mkdir()
    for content in (b"", b"no XML", b"\xff" * 1000, b'<!DOCTYPE a [<!ENTITY b "c">]>' + xmp('dc:title="x"')):
        (tmp_path / "a.xmp").write_bytes(content)
        assert open_picture(tmp_path / "a.jpg").metadata == Metadata()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_corrupt_packets_are_read_up_to_the_damage(data: st.DataObject) -> None:
    packet = bytearray(xmp('dc:title="A fair" xmp:CreateDate="1987-06-05"', BAG))
    for _ in range(data.draw(st.integers(0, 5))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    read = read_xmp(bytes(packet[: data.draw(st.integers(0, len(packet)))]))
    for text in (read.title, read.description, *read.keywords):
        assert text is None or (text.strip() and text.isprintable())
