"""Edits and extensions with every family of decoders, at the commands: what is outside the mask stays bit for bit."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit.marks.reading import verify

FAMILIES = (
    "kandinsky",
    "kandinsky_inpaint",
    "adapter_15",
    "adapter_15_inpaint",
    "adapter_xl",
    "adapter_xl_inpaint",
    "unclip",
)
BOX = (20, 10, 30, 24)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Return a picture of 90 x 60 pixels, turned by its EXIF orientation to 60 x 90."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (60, 90, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    return tmp_path / "photo.jpg"


def upright(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.transpose(Image.Transpose.ROTATE_270))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def outside(shape: tuple[int, ...], box: tuple[int, int, int, int] = BOX) -> np.ndarray:
    x, y, width, height = box
    mask = np.ones(shape[:2], bool)
    mask[y : y + height, x : x + width] = False
    return mask


def box(*numbers: int) -> str:
    return ",".join(map(str, numbers))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_box_changes_and_seeds_are_reproducible(clipkit, tmp_path, photo, request, family):
    decoder = request.getfixturevalue(family)
    original, made = upright(photo), {}
    for name, seed in (("a.png", 3), ("b.png", 3), ("c.webp", 4)):
        path = tmp_path / name
        arguments = ("--box", box(*BOX), "--steps", "2", "--seed", str(seed), "--decoder", decoder, "-o", path)
        output = clipkit("edit", photo, "a dog", *arguments)
        assert output.code == 0 and output.out.strip() == str(path), output.err
        made[name] = pixels(path)
        assert made[name].shape == original.shape == (90, 60, 3)
        kept = outside(original.shape)
        assert np.array_equal(made[name][kept], original[kept])
        assert (made[name][~kept] != original[~kept]).any(1).mean() > 0.8
        assert verify(path).edited
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not np.array_equal(made["a.png"], made["c.webp"])


@pytest.mark.parametrize("family", FAMILIES)
def test_extensions_keep_the_picture(clipkit, tmp_path, photo, request, family):
    """In several tiles without a text, and in a single one with a text."""
    decoder, path = request.getfixturevalue(family), tmp_path / "out.png"
    original = upright(photo)
    common = ("--steps", "2", "--seed", "3", "--decoder", decoder, "-o", path)
    output = clipkit("extend", photo, "--right", "40", "--top", "5", *common)
    assert output.code == 0, output.err
    assert pixels(path).shape == (95, 100, 3) and np.array_equal(pixels(path)[5:, :60], original)
    assert verify(path).edited
    output = clipkit("extend", photo, "a dog", "--bottom", "50", *common)
    assert output.code == 0, output.err
    assert pixels(path).shape == (140, 60, 3) and np.array_equal(pixels(path)[:90], original)
    assert (pixels(path)[90:] != pixels(path)[89:-1]).any(2).mean() > 0.8, "it is more than a repeated edge"


def test_a_mask_of_any_shape(clipkit, tmp_path, photo, kandinsky):
    """A ring, also at half the picture's size; white is repainted."""
    original = upright(photo)
    y, x = np.mgrid[:90, :60]
    distance = np.hypot(x - 30, y - 45)
    ring = (distance > 10) & (distance < 25)
    Image.fromarray(ring.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    path = tmp_path / "out.png"
    output = clipkit("edit", photo, "a dog", "--mask", tmp_path / "mask.png", "--decoder", kandinsky, "-o", path)
    assert output.code == 0, output.err
    changed = (pixels(path) != original).any(2)
    assert not (changed & ~ring).any() and changed[ring].mean() > 0.8
    with Image.open(tmp_path / "mask.png") as mask:
        mask.resize((30, 45)).save(tmp_path / "half.png")
    half = clipkit("edit", photo, "a dog", "--mask", tmp_path / "half.png", "--decoder", kandinsky, "-o", path)
    assert half.code == 0, half.err


@pytest.mark.parametrize(
    "wrong",
    [
        ("edit", "PHOTO", "a dog"),
        ("edit", "PHOTO", "a dog", "--box", "1,2,3,4", "--mask", "PHOTO"),
        ("edit", "PHOTO", "a dog", "--box", "1,2,3"),
        ("edit", "PHOTO", "a dog", "--box", "60,0,10,10"),
        ("edit", "PHOTO", " ", "--box", "0,0,10,10"),
        ("edit", "PHOTO", "a dog", "--mask", "BLACK"),
        ("edit", "PHOTO", "a dog", "--mask", "WIDE"),
        ("edit", "PHOTO", "a dog", "--box", "0,0,10,10", "-o", "PHOTO"),
        ("edit", "absent.jpg", "a dog", "--box", "0,0,10,10"),
        ("extend", "PHOTO"),
        ("extend", "PHOTO", "--left", "-5"),
        ("extend", "PHOTO", "--left", "16384"),
        ("extend", "PHOTO", "--left", "8", "-o", "PHOTO"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(clipkit, tmp_path, photo, kandinsky, wrong):
    Image.new("L", (60, 90)).save(tmp_path / "black.png")
    Image.new("L", (90, 60), 255).save(tmp_path / "wide.png")
    files = {"PHOTO": photo, "BLACK": tmp_path / "black.png", "WIDE": tmp_path / "wide.png"}
    arguments = [files.get(word, word) for word in wrong]
    if "-o" not in arguments:
        arguments += ["-o", tmp_path / "out.png"]
    before = photo.read_bytes()
    output = clipkit(*arguments, "--decoder", kandinsky)
    assert output.code == 2 and output.err.startswith("clipkit: ") and output.err.count("\n") == 1, output.err
    assert photo.read_bytes() == before and not (tmp_path / "out.png").exists()


def test_the_original_is_never_overwritten_by_another_name(clipkit, tmp_path, photo, kandinsky):
    link = tmp_path / "link.jpg"
    link.hardlink_to(photo)
    numbered = tmp_path / "a.jpg"
    numbered.with_stem("a-2").hardlink_to(photo)
    before = photo.read_bytes()
    for more in (("-o", link), ("-o", numbered, "-n", "2")):
        output = clipkit("edit", photo, "a dog", "--box", "0,0,9,9", "--decoder", kandinsky, *more)
        assert output.code == 2 and "never overwritten" in output.err
    assert photo.read_bytes() == before


def test_an_inpainting_checkpoint_generates_nothing_from_nothing(clipkit, tmp_path, kandinsky_inpaint):
    output = clipkit("generate", "a dog", "--decoder", kandinsky_inpaint, "-o", tmp_path / "out.png")
    assert output.code == 2 and "clipkit edit" in output.err and output.err.count("\n") == 1


def test_a_label_is_written_into_what_is_new(clipkit, tmp_path, photo, kandinsky):
    original = upright(photo)
    paths = tmp_path / "plain.png", tmp_path / "label.png"
    for path, more in zip(paths, ((), ("--label",)), strict=True):
        arguments = ("--box", "2,30,58,58", "--seed", "1", "--decoder", kandinsky, "-o", path)
        assert clipkit("edit", photo, "a dog", *arguments, *more).code == 0
    plain, labelled = map(pixels, paths)
    kept = outside(original.shape, (2, 30, 58, 58))
    assert np.array_equal(labelled[kept], original[kept])
    changed = np.abs(labelled.astype(int) - plain).max(2) > 40
    assert changed[70:].sum() > 100 and not changed[:60].any()


def test_show_prints_the_commands_that_make_them_again(clipkit, tmp_path, photo, kandinsky):
    assert clipkit("index", photo.parent, "--model", "tiny").code == 0
    mask = tmp_path / "mask.png"
    Image.fromarray(outside((90, 60)).astype(np.uint8) * 255).point(lambda v: 255 - v).save(mask)
    common = ("--decoder", kandinsky, "-n", "2", "--steps", "2", "--json")
    rows = json.loads(clipkit("edit", photo, "a dog", "--mask", mask, *common).out)
    rows += json.loads(clipkit("edit", photo, "a dog", "--box", "5,5,20,20", "--label", *common).out)
    rows += json.loads(clipkit("extend", photo, "--left", "8", "--bottom", "3", *common).out)
    assert [row["operation"] for row in rows] == ["edit"] * 4 + ["extend"] * 2
    for row in rows[1::2]:
        assert row["parents"] == [str(photo)]
        (shown,) = json.loads(clipkit("generated", "show", str(row["id"]), "--json").out)
        again = clipkit(*shlex.split(shown["command"])[1:])
        assert again.code == 0, again.err
        assert Path(again.out.strip()).read_bytes() == Path(row["path"]).read_bytes()
