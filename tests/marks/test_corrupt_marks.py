"""Corrupt and hostile metadata: `verify` returns marks or raises UnreadableImage, nothing else."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipkit import UnreadableImage, verify
from clipkit.marks.cbor import BadCbor, decode
from clipkit.marks.containers import find_blocks, sub_boxes
from clipkit.marks.credentials import read_credentials
from clipkit.marks.provenance import Provenance
from clipkit.marks.writing import save_marked

from .packets import chunk, encoded, jpeg_with_segments

SUFFIXES = (".png", ".jpg", ".webp")


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    for suffix in SUFFIXES:
        picture = Image.effect_noise((64, 64), 60).convert("RGB")
        save_marked(picture, folder / f"a{suffix}", Provenance("noise", "tiny", 3, created_at="2026"))
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


changes = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=0, max_size=6), st.integers(0, 40)), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SUFFIXES), changes, st.floats(0, 1))
def test_any_corruption_yields_marks_or_a_reason(originals, tmp_path_factory, suffix, changes, kept):
    data = bytearray(originals[suffix])
    for place, new, cut in changes:
        # Most bytes are pixels: move changes towards the front, where PNG and JPEG have their metadata.
        at = round(place**2 * len(data))
        data[at : at + cut] = new
    if kept > 0.7:
        data = data[: round(kept * len(data))]
    path = tmp_path_factory.mktemp("corrupted") / f"a{suffix}"
    path.write_bytes(data)
    try:
        marks = verify(path)
    except UnreadableImage as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert isinstance(marks.generated, bool) and marks.to_json()


SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\xff\0\0\0WEBP",
    b"\0\0\0\x18ftypheic",
    b"\0\0\0\x0cjP  \r\n\x87\n",
)
MARKERS = (b"\xff\xe1", b"iTXt", b"caBX", b"uuid", b"\xff\xeb\0\x20JP")


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(SIGNATURES), st.lists(st.binary(max_size=60) | st.sampled_from(MARKERS), max_size=12))
def test_any_bytes_after_a_valid_signature(signature, parts):
    find_blocks(io.BytesIO(signature + b"".join(parts)))


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_cbor_and_boxes(data):
    with contextlib.suppress(BadCbor):
        decode(data)
    list(sub_boxes(data))
    read_credentials(data)
    read_credentials(struct.pack(">I4s", len(data) + 8, b"jumb") + data)


def test_cbor():
    assert decode(bytes.fromhex("a26161016162820203")) == {"a": 1, "b": [2, 3]}
    assert decode(bytes.fromhex("bf61610161629f0203ffff")) == {"a": 1, "b": [2, 3]}
    assert decode(bytes.fromhex("7f657374726561646d696e67ff")) == "streaming"
    assert decode(bytes.fromhex("c074323031332d30332d32315432303a30343a30305a")) == "2013-03-21T20:04:00Z"
    assert decode(bytes.fromhex("83f5f4f6")) == [True, False, None] and decode(bytes.fromhex("3903e7")) == -1000
    for bad in ("", "81", "9b7fffffffffffffff", "81" * 5000, "1c", "bf01", "7f01ff", "a1a1010203"):
        if bad != "a1a1010203":
            with pytest.raises(BadCbor):
                decode(bytes.fromhex(bad))
    assert decode(bytes.fromhex("a1a1010203")) == {"{1: 2}": 3}


def test_a_decompression_bomb_is_cut_off(tmp_path):
    plain = encoded("PNG")
    bomb = zlib.compress(bytes(50_000_000), 9)
    for kind, head in ((b"zTXt", b"parameters\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0")):
        blocks = find_blocks(io.BytesIO(plain[:-12] + chunk(kind, head + bomb) + plain[-12:]))
        assert sum(len(text) for _, text in blocks.texts) + sum(map(len, blocks.xmp)) <= 4 * 1024**2


def test_wrong_lengths():
    for data in (
        jpeg_with_segments((0xE1, b"http://ns.adobe.com/xap/1.0/\0<a"))[:60],
        b"\xff\xd8\xff\xe1\0\0" + bytes(100),
        b"\xff\xd8\xff\xe1\0\1" + bytes(100),
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffiTXt" + bytes(50),
        b"RIFF\xff\xff\xff\xffWEBPXMP \xff\xff\xff\xff",
        b"\0\0\0\x18ftypheic" + bytes(12) + b"\0\0\0\1uuid\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(40),
    ):
        find_blocks(io.BytesIO(data))
