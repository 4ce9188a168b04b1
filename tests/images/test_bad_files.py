"""Corrupt and hostile files: each is decoded or fails quickly with one plain reason."""

from __future__ import annotations

import os
import random
import socket
import time
import zlib
from pathlib import Path

import pytest

from clipkit.errors import UnreadableImage
from clipkit.images.decoding import open_picture
from clipkit.images.hashing import content_hash
from clipkit.images.limits import Limits

from .make_files import SHARED, bombs, corners, dng, encoded, png_chunk, png_header


def outcome(source: Path | bytes, **options: object) -> str:
    """Return "picture" or the kind of failure, after checking the failure."""
    started = time.monotonic()
    try:
        picture = open_picture(source, **options)
    except UnreadableImage as error:
        assert error.reason.strip() and len(error.reason.splitlines()) == 1 and len(error.reason) < 400
        assert error.__traceback__ is not None
        result = error.kind
    else:
        assert picture.image.mode == "RGB" and min(picture.image.size) > 0
        picture.image.tobytes()
        result = "picture"
    assert time.monotonic() - started < 10
    return result


def samples() -> dict[str, bytes]:
    small = corners(48, 32)
    made = {
        f"made.{name.lower()}": encoded(small, name)
        for name in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
    }
    made["made.lzw.tiff"] = encoded(small, "TIFF", compression="tiff_lzw")
    made["made.progressive.jpeg"] = encoded(small, "JPEG", progressive=True)
    made["made.dng"] = dng(small, preview=small.resize((24, 16)))
    for name in ("bee.heic", "tree.webp", "books.jpg", "magpie.pbm"):
        if (SHARED / "formats" / name).is_file():
            made[name] = (SHARED / "formats" / name).read_bytes()
    return made


@pytest.mark.parametrize("name", sorted(samples()))
def test_mutated_files_decode_or_fail_with_a_reason(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, randomly = samples()[name], random.Random(name)
    path = tmp_path / name
    outcomes = []
    for turn in range(26):
        mutant = bytearray(original)
        if turn % 2:
            mutant = mutant[: randomly.randrange(len(mutant))]
        else:
            reach = len(mutant) if turn % 4 else min(200, len(mutant))  # decoders mostly fail on headers
            for _ in range(randomly.choice((1, 3, 20))):
                mutant[randomly.randrange(reach)] ^= 1 << randomly.randrange(8)
        path.write_bytes(mutant)
        outcomes.append(outcome(path, shortest_side=randomly.choice((None, 16)), limits=Limits(pixels=20_000_000)))
    assert any(kind != "picture" for kind in outcomes)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", sorted(n for n in samples() if n != "made.dng"))
def test_cut_off_files_are_reported_as_truncated(name: str) -> None:
    data = samples()[name]
    for part in (0.5, 0.8):
        assert outcome(data[: int(len(data) * part)]) == "truncated"


def test_wrong_extensions_do_not_matter(tmp_path: Path) -> None:
    for name, data in samples().items():
        for extension in (".jpg", ".png", ".heic", ".cr2", ".txt"):
            path = tmp_path / (name + extension)
            path.write_bytes(data)
            assert outcome(path) == "picture", path.name


@pytest.mark.parametrize("name", sorted(bombs()))
def test_pixel_bombs_are_rejected_from_their_header(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(bombs()[name])
    started = time.monotonic()
    assert outcome(path) == outcome(path, shortest_side=100) == "too-large"
    assert time.monotonic() - started < 1


def test_zip_bombs_in_text_chunks() -> None:
    packed = zlib.compress(bytes(80 * 1024 * 1024), 9)
    data = encoded(corners(8, 8), "PNG")
    for chunk in (
        png_chunk(b"zTXt", b"Comment\0\0" + packed),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
        png_chunk(b"iCCP", b"icc\0\0" + packed),
    ):
        assert outcome(data[:33] + chunk + data[33:]) in ("too-large", "picture")
    assert outcome(png_header(10, 10) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")) in (
        "unreadable",
        "picture",
    )


def test_files_that_are_not_pictures(tmp_path: Path) -> None:
    assert outcome(b"") == "not-an-image"
    for data in (
        b"\0" * 5000,
        b"hello",
        b"<svg/>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P5 is a name",
        b"\xff",
    ):
        assert outcome(data) in ("not-an-image", "unreadable", "truncated")
    for name in ("a.jpg", "a.heic", "a.nef", "a.cr3", "a.tif"):
        (tmp_path / name).write_bytes(random.Random(1).randbytes(3000))
        assert outcome(tmp_path / name) in ("not-an-image", "unsupported")
        (tmp_path / name).write_bytes(b"")
        assert outcome(tmp_path / name) == "not-an-image"


def test_paths_that_are_not_regular_files(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    assert outcome(tmp_path / "folder.jpg") == "directory"
    assert outcome(tmp_path / "gone.jpg") == "vanished"
    assert outcome(Path("bad\0name.jpg")) == "unreadable"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert outcome(tmp_path / "pipe.jpg") == "unreadable"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(tmp_path / "s.jpg"))
            assert outcome(tmp_path / "s.jpg") == "unreadable"
        (tmp_path / "circle.jpg").symlink_to("circle.jpg")
        assert outcome(tmp_path / "circle.jpg") == "unreadable"
        assert outcome(Path("/dev/zero")) == "unreadable"


def test_undecodable_file_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff\n.png")
    try:
        (tmp_path / name).write_bytes(encoded(corners(), "PNG"))
    except OSError:
        pytest.skip("this file system takes Unicode names alone")
    assert outcome(tmp_path / name) == "picture"
    assert len(content_hash(tmp_path / name)) == 32


def test_content_hash(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    assert content_hash(path) == "99aa06d3014798d86001c324468d497f"  # XXH3-128 of nothing, from its specification
    path.write_bytes(bytes(3_000_000))
    first = content_hash(path)
    (tmp_path / "b").write_bytes(bytes(3_000_000))
    assert content_hash(tmp_path / "b") == first
    path.write_bytes(bytes(2_999_999) + b"\1")
    assert content_hash(path) != first
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(UnreadableImage):
            content_hash(missing)
