"""Masks and windows, on pictures and boxes of any shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipkit.errors import BadQuery
from clipkit.generation.operations.extend import padded, strips
from clipkit.generation.operations.masks import bounds, box_mask, feathered, read_mask
from clipkit.generation.operations.repaint import repeated
from clipkit.generation.operations.windows import around, cut, cut_and_fill, filled, pasted

SIDES = st.integers(1, 70)


@st.composite
def masked_pictures(draw):
    """Pixels, uint8 (h, w, 3), and a box (x, y, width, height) in them."""
    height, width = draw(SIDES), draw(SIDES)
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    return rng.integers(0, 255, (height, width, 3), np.uint8), box


@settings(max_examples=40, deadline=None)
@given(masked_pictures(), st.sampled_from([0.0, 0.15, 0.5]), st.booleans(), st.integers(0, 40))
def test_a_window_holds_the_box_and_only_the_box_changes(picture, margin, centred, smallest):
    pixels, box = picture
    size = pixels.shape[1], pixels.shape[0]
    inside = box_mask(box, size)
    window = around(bounds(inside), size, margin, smallest=smallest, centred=centred)
    there, here = window.overlap(*inside.shape)
    assert inside[there].sum() == inside.sum() == box[2] * box[3]
    patch = cut_and_fill(pixels, inside, window)
    assert patch.pixels.shape == (window.side, window.side, 3)
    assert np.array_equal(patch.pixels[~patch.inside], cut(pixels, inside, window).pixels[~patch.inside])
    assert np.array_equal(patch.inside[here], inside[there]) and patch.inside.sum() == (
        window.side**2 - (~inside[there]).sum()
    )
    opacity = feathered(inside)
    assert opacity.max() == 255 and not opacity[~inside].any()
    result = pasted(pixels, Image.new("RGB", (16, 16), (7, 7, 7)), window, opacity)
    assert np.array_equal(result[~inside], pixels[~inside])
    assert (result[opacity == 255] == 7).all()


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, *[st.integers(0, 90)] * 4, st.integers(16, 64))
def test_strips_cover_what_is_new_once(height, width, left, right, top, bottom, tile):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
    canvas, new = padded(pixels, left, right, top, bottom)
    assert np.array_equal(canvas[~new].reshape(pixels.shape), pixels)
    painted = np.zeros(new.shape, int)
    for x0, y0, x1, y1 in strips((new.shape[1], new.shape[0]), (left, top, left + width, top + height), tile):
        assert max(x1 - x0, y1 - y0) <= 1.5 * tile + 1
        painted[y0:y1, x0:x1] += 1
    assert np.array_equal(painted, new.astype(int))


def test_holes_are_filled_from_around_them():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = 200
    inside = np.zeros((40, 60), bool)
    inside[10:30, 5:20] = True
    ruined = pixels.copy()
    ruined[inside] = 99
    hole = filled(ruined, inside)
    assert np.array_equal(hole[~inside], pixels[~inside]) and hole[20, 5:20, 0].mean() < 40
    inside[:, 25:35] = True
    values = filled(ruined, inside)[20, 24:36, 0].astype(int)
    assert (np.diff(values) >= 0).all() and 50 < values[6] < 150
    assert (filled(ruined, np.ones_like(inside)) == 128).all()


def test_masks_are_read_from_files_images_and_arrays(tmp_path):
    wanted = np.zeros((40, 60), bool)
    wanted[:20, :20] = True
    image = Image.fromarray(wanted.astype(np.uint8) * 255)
    image.save(tmp_path / "mask.png")
    for mask in (tmp_path / "mask.png", str(tmp_path / "mask.png"), image, wanted, np.asarray(image)):
        assert np.array_equal(read_mask(mask, (60, 40)), wanted)
    assert np.array_equal(read_mask(image.resize((30, 20)), (60, 40)), wanted)
    with pytest.raises(BadQuery, match="shape"):
        read_mask(image, (40, 60))
    with pytest.raises(BadQuery, match="white"):
        read_mask(Image.new("L", (60, 40)), (60, 40))


@given(st.integers(1, 100), st.integers(1, 12), st.integers(1, 4))
def test_every_step_is_taken_as_often(steps, jump, resamples):
    order = repeated(steps, jump, resamples)
    assert [order.count(step) for step in range(steps)] == [resamples] * steps
    assert all(after == before + 1 or after > before - jump for before, after in zip(order, order[1:], strict=False))
