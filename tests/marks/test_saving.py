"""Saving pictures with marks, and reading these back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import clipkit
from clipkit import ClipkitError, Provenance, save_marked, verify
from clipkit.marks.reading import find_evidence
from clipkit.marks.source_type import TRAINED
from clipkit.samples.painting import paint
from clipkit.samples.photos import sample_scenes

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".PNG")
HOW = Provenance('a "<cät>" & a 🚀\nin the snow', "tiny", 7, 20, 4.0, created_at="2026-01-02T03:04:05+00:00")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return paint(sample_scenes(3)[2], 256)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_mark_is_written(picture, tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    save_marked(picture, path, HOW)
    marks = verify(path)
    assert marks.generated and marks.provenance == HOW and marks.watermark.found
    assert marks.digital_source_types == (TRAINED,)
    text = "png text" if suffix.lower() == ".png" else "exif"
    assert {(m.kind, m.where) for m in marks.found} == {
        ("digital source type", "xmp"),
        ("software", "xmp"),
        ("software", text),
        ("provenance", "xmp"),
        ("provenance", text),
        ("watermark", "pixels"),
    }
    assert marks.evidence == f"xmp, {text}, pixels"
    assert any(m.value == f"clipkit {clipkit.__version__}" for m in marks.found if m.kind == "software")
    with Image.open(path) as image:
        assert image.size == (256, 256) and image.mode == "RGB"
        assert find_evidence(path, image).where == marks.evidence


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_picture_and_provenance_yield_the_same_bytes(picture, tmp_path, suffix):
    for name in "ab":
        save_marked(picture, tmp_path / f"{name}{suffix}", HOW)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_other_programs_can_read_the_texts(picture, tmp_path):
    save_marked(picture, tmp_path / "a.png", HOW)
    save_marked(picture, tmp_path / "a.jpg", HOW)
    with Image.open(tmp_path / "a.png") as png, Image.open(tmp_path / "a.jpg") as jpg:
        assert png.text["Software"].startswith("clipkit ") and png.text["Description"] == HOW.query  # type: ignore[attr-defined]
        exif = jpg.getexif()
        assert exif[0x0131].startswith("clipkit ") and exif[0x010E].encode("latin-1").decode() == HOW.query
        assert '"seed": 7' in exif.get_ifd(0x8769)[0x9286].decode("latin-1")
        assert TRAINED.encode() in jpg.info["xmp"] and b"AIPromptInformation" in jpg.info["xmp"]


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=300),
    st.text(min_size=1, max_size=50),
    st.integers(-(2**63), 2**63),
    st.none() | st.integers(1, 1000),
    st.none() | st.floats(0, 50),
)
def test_any_provenance_is_read_back(tmp_path_factory, query, model, seed, steps, guidance):
    how = Provenance(query, model, seed, steps, guidance, created_at="2026")
    assert Provenance.from_text(how.to_text()) == how
    folder = tmp_path_factory.mktemp("any")
    for suffix in (".png", ".jpg", ".webp"):
        save_marked(Image.new("RGB", (64, 64)), folder / f"a{suffix}", how)
        marks = verify(folder / f"a{suffix}")
        assert marks.provenance == how and marks.generated and marks.digital_source_types == (TRAINED,)


def test_long_texts_are_cut_to_fit(tmp_path):
    how = Provenance("\N{CAT}" * 100_000, "m" * 10_000, 1)
    assert len(how.query) == len(how.model) == 2000
    for suffix in (".png", ".jpg", ".webp"):
        save_marked(Image.new("RGB", (64, 64)), tmp_path / f"a{suffix}", how)
        assert verify(tmp_path / f"a{suffix}").provenance == how


def test_other_text_is_not_provenance():
    for text in ("", "{}", "[1]", "nan", '{"software": "x"}', '{"software": "clipkit 1", "seed": "1"}', "[" * 100_000):
        assert Provenance.from_text(text) is None
    newer = '{"software": "clipkit 9", "seed": 1, "query": "a", "model": "b", "later": 1, "steps": 3}'
    assert Provenance.from_text(newer).steps == 3  # type: ignore[union-attr]


def test_other_extensions_are_refused(picture, tmp_path):
    with pytest.raises(ClipkitError, match="use the extension .png"):
        save_marked(picture, tmp_path / "a.gif", HOW)
    assert not any(tmp_path.iterdir())


def test_a_failed_write_leaves_no_file(picture, tmp_path):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError):
        save_marked(picture, tmp_path / "taken.png", HOW)
    with pytest.raises(FileNotFoundError):
        save_marked(picture, tmp_path / "nowhere" / "a.png", HOW)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]


PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
from clipkit import Provenance, save_marked
picture = Image.effect_noise((300, 300), 90).convert("RGB")
for turn in range(100_000):
    save_marked(picture, Path(sys.argv[1]) / f"{turn % 7}.png", Provenance("noise", "m", turn))
    print(turn, flush=True)
"""


def test_a_kill_leaves_no_half_written_file(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(clipkit.__file__).parents[1])}
    for turns in (0, 3, 12):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdout
        for _ in range(turns + 1):
            process.stdout.readline()
        process.kill()
        process.communicate()
        written = list(tmp_path.glob("*.png"))
        assert written and all(verify(path).watermark.found for path in written)
