"""Marks of edited pictures: only what is new is changed, the original is named, and `verify` tells edits apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipkit import Provenance, save_marked, verify
from clipkit.marks import watermark
from clipkit.marks.label import draw_label
from clipkit.marks.original import Edited
from clipkit.marks.reading import find_evidence, read_marks
from clipkit.marks.source_type import COMPOSITE, TRAINED
from clipkit.samples.painting import paint
from clipkit.samples.photos import sample_scenes

from .certificates import write_certificate

HOW = Provenance("a dog", "tiny", 7, 20, 4.0, operation="edit")
LOSSLESS = (".png", ".webp")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return paint(sample_scenes(3)[2], 256)


def box(width: int, height: int) -> np.ndarray:
    """Return a mask of 256 x 256 pixels with a box near its lower right corner."""
    inside = np.zeros((256, 256), bool)
    inside[240 - height : 240, 250 - width : 250] = True
    return inside


def edited(picture: Image.Image, painted: np.ndarray, **more) -> Edited:
    return Edited(painted=painted, pixels=picture, name="photo.jpg", content="0123456789abcdef" * 2, **more)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("side", [64, 96, 160, 256])
def test_the_watermark_is_only_in_what_is_new(picture, side):
    painted = box(side, side) if side < 256 else ~box(60, 60)
    marked = watermark.embed(picture, painted)
    assert np.array_equal(pixels(marked)[~painted], pixels(picture)[~painted])
    assert watermark.detect(marked).found
    smaller = marked.resize((128, 128), Image.Resampling.BICUBIC)
    assert watermark.detect(smaller).found
    assert np.abs(pixels(marked).astype(int) - pixels(picture)).max() <= 12
    assert np.array_equal(pixels(watermark.embed(picture, painted)), pixels(marked))


def test_what_is_too_small_stays_without_a_watermark(picture, tmp_path):
    painted = box(8, 8)
    assert np.array_equal(pixels(watermark.embed(picture, painted)), pixels(picture))
    assert save_marked(picture, tmp_path / "a.png", HOW, edited=edited(picture, painted)) is False
    marks = verify(tmp_path / "a.png")
    assert marks.edited and not marks.watermark.found and marks.evidence == "xmp, png text"


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".jpg"])
def test_every_mark_says_edited(picture, tmp_path, suffix):
    path, painted = tmp_path / f"a{suffix}", box(120, 120)
    assert save_marked(picture, path, HOW, edited=edited(picture, painted)) is True
    marks = verify(path)
    assert marks.generated and marks.edited and marks.watermark.found
    assert marks.digital_source_types == (COMPOSITE,)
    assert (marks.provenance.operation, marks.provenance.region) == ("edit", "130,120,120,120")
    assert (marks.provenance.parent, marks.provenance.parent_name) == ("0123456789abcdef" * 2, "photo.jpg")
    assert marks.provenance.parent_marks is None
    with Image.open(path) as image:
        if suffix in LOSSLESS:
            assert np.array_equal(pixels(image)[~painted], pixels(picture)[~painted])
        assert find_evidence(path, image).edited_from == "0123456789abcdef" * 2
    before = path.read_bytes()
    save_marked(picture, path, HOW, edited=edited(picture, painted))
    assert path.read_bytes() == before


def test_a_generated_picture_is_not_edited(picture, tmp_path):
    save_marked(picture, tmp_path / "a.png", HOW)
    marks = verify(tmp_path / "a.png")
    assert marks.generated and not marks.edited
    with Image.open(tmp_path / "a.png") as image:
        assert find_evidence(tmp_path / "a.png", image).edited_from is None
    picture.save(tmp_path / "photo.png")
    assert not verify(tmp_path / "photo.png").edited


def test_marks_of_the_original_are_named(picture, tmp_path):
    """What was generated stays generated when a part is painted anew; what was edited stays edited."""
    save_marked(picture, tmp_path / "made.png", HOW)
    save_marked(picture, tmp_path / "edited.png", HOW, edited=edited(picture, box(99, 99)))
    for name, source_type in (("made", TRAINED), ("edited", COMPOSITE)):
        path = tmp_path / f"{name}.png"
        with Image.open(path) as image:
            own = read_marks(path, image)
            facts = {"marks": own.in_words, "generated": own.generated and not own.edited}
            again = edited(image.convert("RGB"), box(90, 90), data=path, **facts)
            save_marked(image.convert("RGB"), tmp_path / "again.png", HOW, edited=again)
        marks = verify(tmp_path / "again.png")
        assert marks.digital_source_types == (source_type,) and marks.edited == (name == "edited")
        assert source_type in marks.provenance.parent_marks and "watermark: clipkit" in marks.provenance.parent_marks


@pytest.mark.parametrize("original", [".jpg", ".webp", ".bmp", None])
def test_the_original_is_an_ingredient_of_the_manifest(picture, tmp_path, original):
    pytest.importorskip("c2pa", reason="the C2PA library is not installed: pip install 'clipkit[c2pa]'")
    certificate = write_certificate(tmp_path)
    data = None
    if original:
        picture.save(tmp_path / f"photo{original}")
        data = tmp_path / f"photo{original}"
    how = edited(picture, box(120, 120), data=data)
    save_marked(picture, tmp_path / "a.png", HOW, certificate=certificate, edited=how)
    marks = verify(tmp_path / "a.png")
    assert marks.credentials.state == "Valid" and marks.edited
    assert marks.credentials.actions == ("c2pa.opened", "c2pa.edited")
    assert marks.credentials.source_types == (COMPOSITE,)
    assert b"photo.jpg" in (tmp_path / "a.png").read_bytes() and b"c2pa.ingredient" in (tmp_path / "a.png").read_bytes()


def test_manifests_of_the_original_are_kept(picture, tmp_path):
    pytest.importorskip("c2pa", reason="the C2PA library is not installed: pip install 'clipkit[c2pa]'")
    certificate = write_certificate(tmp_path)
    save_marked(picture, tmp_path / "made.jpg", HOW, certificate=certificate)
    how = edited(picture, box(120, 120), generated=True, data=(tmp_path / "made.jpg").read_bytes())
    save_marked(picture, tmp_path / "a.png", HOW, certificate=certificate, edited=how)
    marks = verify(tmp_path / "a.png")
    assert marks.credentials.state == "Valid" and not marks.edited
    assert marks.credentials.actions == ("c2pa.opened", "c2pa.edited", "c2pa.created")


@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_label_changes_only_what_is_new(picture, width):
    painted = box(width, 40)
    labelled = draw_label(picture, "AI-edited", painted)
    assert np.array_equal(pixels(labelled)[~painted], pixels(picture)[~painted])
    assert (pixels(labelled) != pixels(picture)).any(2).sum() > 100
    whole = draw_label(picture, "AI-generated")
    changed = np.flatnonzero((pixels(whole) != pixels(picture)).any((1, 2)))
    assert changed[0] > 200 and whole.size == picture.size
