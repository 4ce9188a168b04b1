"""The invisible watermark: detected after common changes, and not in unmarked pictures."""

from __future__ import annotations

import io
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from clipkit.marks.watermark import HYPOTHESES, THRESHOLD, detect, embed
from clipkit.samples.painting import paint
from clipkit.samples.world import scenes


def jpeg75(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=75)
    return Image.open(out)


def half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [paint(scene, 256) for scene in islice(scenes(40), 40)]


@pytest.fixture(scope="module")
def marked(pictures) -> list[Image.Image]:
    return [embed(picture) for picture in pictures]


@pytest.mark.parametrize(
    "attack",
    [lambda i: i, jpeg75, half, lambda i: half(jpeg75(i)), lambda i: jpeg75(half(i)), lambda i: i.convert("L")],
    ids=["none", "JPEG 75", "half", "JPEG 75, half", "half, JPEG 75", "grey"],
)
def test_it_survives_common_changes(marked, attack):
    assert np.mean([detect(attack(picture)).found for picture in marked]) >= 0.95


def test_it_is_not_detected_in_unmarked_scenes(pictures):
    scores = [detect(change(picture)).score for picture in pictures for change in (lambda i: i, jpeg75, half)]
    assert max(scores) < THRESHOLD - 1


def test_it_is_not_detected_in_photographs_and_their_crops(shared):
    rng = np.random.default_rng(3)
    scores = []
    for path in sorted((shared / "photos").glob("*.jpg")):
        photo = Image.open(path).convert("RGB")
        scores.append(detect(photo).score)
        for _ in range(4):
            left, top = (int(rng.integers(0, side - 64)) for side in photo.size)
            scores.append(detect(photo.crop((left, top, photo.width, photo.height))).score)
    assert len(scores) == 1000 and max(scores) < THRESHOLD
    assert detect(embed(photo)).found


def test_it_is_invisible(pictures, marked):
    for picture, watermarked in zip(pictures, marked, strict=True):
        error = np.asarray(picture, np.float64) - np.asarray(watermarked, np.float64)
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 45
        assert np.abs(error).max() <= 8, "no pixel stands out"


def test_embedding_is_deterministic_and_can_be_repeated(pictures, marked):
    assert embed(pictures[0]).tobytes() == marked[0].tobytes()
    again = embed(marked[0])
    assert detect(again).found and np.abs(np.asarray(again, int) - np.asarray(marked[0], int)).max() <= 2


@settings(max_examples=60, deadline=None)
@given(st.integers(64, 700), st.integers(64, 700), st.integers(0, 10**6), st.sampled_from(["RGB", "L", "RGBA", "CMYK"]))
def test_any_size_and_mode(width, height, seed, mode):
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8))
    picture = noise.resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    watermarked = embed(picture)
    assert watermarked.size == picture.size and watermarked.mode == "RGB"
    assert detect(watermarked).found and detect(watermarked).score > 20
    assert not detect(picture).found


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (14, 14), (5000, 3)])
def test_a_picture_that_is_too_small_stays_unmarked(size):
    picture = Image.new("RGB", size, (90, 120, 200))
    assert embed(picture).tobytes() == picture.tobytes() and detect(picture).score == 0


def test_plain_colours():
    for colour in ("black", "white", (128, 3, 9)):
        plain = Image.new("RGB", (256, 192), colour)
        assert abs(detect(plain).score) < 0.5 and detect(embed(plain)).found


def test_the_bound_on_false_positives_holds():
    """The probability of a score above t is at most HYPOTHESES * exp(-t^2 / 2) for any kind of picture."""
    rng = np.random.default_rng(11)
    scores = []
    for turn in range(1500):
        picture = Image.fromarray(rng.integers(0, 256, (int(rng.integers(3, 96)), 80, 3), np.uint8))
        picture = picture.resize((128, 128), Image.Resampling.BICUBIC)
        if turn % 3 == 1:
            picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 6))))
        elif turn % 3 == 2:
            picture = ImageOps.posterize(picture, int(rng.integers(1, 5)))
        scores.append(detect(picture).score)
    for t in (3.5, 4.0, 4.5):
        assert np.mean(np.array(scores) > t) <= HYPOTHESES * np.exp(-(t**2) / 2)
    assert max(scores) < THRESHOLD and HYPOTHESES * np.exp(-(THRESHOLD**2) / 2) < 1e-6
