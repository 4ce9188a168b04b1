"""Marks written by other tools, in all their variants, and text that resembles one."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit import verify
from clipkit.marks.source_type import says_generated
from clipkit.marks.xmp import read_packets

from .packets import FORMS, SOURCE, attribute, encoded, jpeg_with_segments, png_with, with_xmp

GENERATED = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
NOT_GENERATED = ("digitalCapture", "negativeFilm", "digitalCreation", "minorHumanEdits", "humanEdits", "screenCapture")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("term", [*GENERATED, *NOT_GENERATED])
def test_every_form_of_the_source_type_in_xmp(form, term):
    facts = read_packets([form(term).encode()])
    assert facts.source_types == (SOURCE + term,)
    assert says_generated(facts.source_types[0]) == (term in GENERATED)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_file_format(tmp_path, format_name):
    path = tmp_path / "picture"
    path.write_bytes(with_xmp(format_name, attribute(GENERATED[0]).encode()))
    marks = verify(path)
    assert marks.digital_source_types == (SOURCE + GENERATED[0],) and marks.generated and marks.evidence == "xmp"
    assert [m.value for m in marks.found if m.kind == "software"] == ["Painter 3"]
    path.write_bytes(with_xmp(format_name, attribute(NOT_GENERATED[0]).encode()))
    marks = verify(path)
    assert marks.digital_source_types == (SOURCE + NOT_GENERATED[0],) and not marks.generated and marks.evidence is None


def test_variants_of_the_value():
    for value in (
        GENERATED[0],
        f"https://cv.iptc.org/newscodes/digitalsourcetype/{GENERATED[0]}/",
        f"digsrctype:{GENERATED[1]}",
    ):
        assert says_generated(value)
    assert not says_generated("not a trainedAlgorithmicMedia at all") and not says_generated("")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_encodings(encoding):
    text = attribute(GENERATED[0])
    data = text.encode(encoding) if encoding != "utf-16-be" else b"\xfe\xff" + text.encode(encoding)
    assert read_packets([data]).source_types


def test_extended_xmp_in_jpeg(tmp_path):
    whole, guid = (attribute(GENERATED[0]) + " " * 70_000).encode(), b"0123456789ABCDEF0123456789ABCDEF"
    parts = [guid + struct.pack(">II", len(whole), at) + whole[at : at + 60_000] for at in (60_000, 0)]
    segments = [(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + part) for part in parts]
    (tmp_path / "a.jpg").write_bytes(jpeg_with_segments(*segments))
    assert verify(tmp_path / "a.jpg").generated


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{}]>""".format(
    "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12))
)


def test_documents_that_define_entities_are_rejected():
    body = attribute(GENERATED[0]).replace("Painter 3", "&m;")
    assert read_packets([(BOMB + body).encode()]) == read_packets([])
    outside = '<!DOCTYPE x [<!ENTITY m SYSTEM "file:///etc/hostname">]>'
    assert read_packets([(outside + body).encode()]) == read_packets([])
    assert read_packets([b"<a>" * 100_000 + attribute(GENERATED[0]).encode()]) == read_packets([])


def test_a_truncated_packet_is_read_as_far_as_possible():
    text = attribute(GENERATED[0]).encode()
    assert read_packets([text[:-30]]).source_types == (SOURCE + GENERATED[0],)
    assert read_packets([text[:200]]).source_types == ()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 500), st.integers(0, 100))
def test_any_packet_is_read_without_an_error(junk, at, cut):
    text = FORMS[at % len(FORMS)](GENERATED[0]).encode()
    read_packets([junk, text[:at] + junk + text[at + cut :]])


SETTINGS = "a castle\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 12345, Size: 512x512"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}, "4": {"class_type": "SaveImage"}})


@pytest.mark.parametrize(
    "texts, generator",
    [
        ({"parameters": SETTINGS}, "Stable Diffusion web UI"),
        ({"prompt": GRAPH}, "ComfyUI"),
        ({"parameters": SETTINGS + " " * 2000}, "Stable Diffusion web UI"),
        ({"parameters": "f/2.8, ISO 100"}, None),
        ({"Comment": SETTINGS}, None),
        ({"prompt": "say cheese"}, None),
    ],
)
def test_texts_left_by_other_generators(tmp_path, texts, generator):
    (tmp_path / "a.png").write_bytes(png_with(**texts))
    marks = verify(tmp_path / "a.png")
    assert [m.value for m in marks.found if m.kind == "generator"] == ([generator] if generator else [])
    assert marks.generated == bool(generator)


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_sampler_settings_in_exif(tmp_path, encoding):
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + SETTINGS.encode(encoding)
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif=exif))
    assert verify(tmp_path / "a.jpg").evidence == "exif"


def test_ordinary_software_is_reported_and_is_not_evidence(tmp_path):
    (tmp_path / "a.png").write_bytes(png_with(Software="clipkit 0.1.0 is what I use"))
    marks = verify(tmp_path / "a.png")
    assert [(m.kind, m.generated) for m in marks.found] == [("software", False)] and not marks.generated


def test_real_photographs_are_not_marked(shared):
    for path in (shared / "formats").iterdir():
        assert not verify(path).generated, path
