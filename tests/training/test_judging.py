"""The judge that scores generated pictures, as it is kept, goes by shape."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit.samples.painting import sprite_of
from clipkit.samples.world import calmed
from clipkit.training import judge as judging
from clipkit.training import scoring
from clipkit.training.correlation import best_correlations
from clipkit.training.scrambling import scrambled

JUDGE = Path(__file__).resolve().parents[2] / "scripts" / "judge.safetensors"


@pytest.fixture(scope="module")
def judge() -> judging.Judge:
    return judging.load(JUDGE)


@pytest.fixture(scope="module")
def scenes():
    return scoring.scenes_to_judge(120, things=1, held_out=False, seed=31)


def test_it_names_true_scenes(judge, scenes):
    calm = scoring.painted([calmed(scene) for scene in scenes])
    assert scoring.look(judge, calm, scenes)["object"] >= 0.97
    assert scoring.look(judge, scoring.painted(scenes), scenes)["object"] >= 0.92


def test_it_names_them_in_grey_and_inverted(judge, scenes):
    squares = scoring.painted([calmed(scene) for scene in scenes])
    grey = np.repeat(squares.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    right = [scene.placed[0].thing.index for scene in scenes]
    assert np.mean(judge.look(grey).things.argmax(1) == right) >= 0.95
    assert np.mean(judge.look(255 - squares).things.argmax(1) == right) >= 0.9


def test_it_sees_nothing_where_the_shape_is_destroyed(judge):
    assert judge.look(scoring.scrambled_scenes(120, seed=31)).nothing.mean() >= 0.95


def test_scrambling_keeps_the_colours_and_not_the_drawing():
    for index in range(0, 96, 8):
        sprite, other = sprite_of(index, 48), sprite_of((index + 17) % 96, 48)
        out = scrambled(sprite, other, random.Random(index))
        assert out.mode == "RGBA" and out.size == sprite.size
        before, after = (
            np.asarray(Image.alpha_composite(Image.new("RGBA", (48, 48), "white"), x)) for x in (sprite, out)
        )
        assert np.abs(before.astype(int) - after).mean() > 8


def test_the_true_sprite_correlates_best_whatever_the_brightness(scenes):
    some = scenes[:6]
    squares = (scoring.painted([calmed(scene) for scene in some]) * 0.9).astype(np.uint8)
    fits = best_correlations(squares, [scene.setting.index for scene in some])
    assert fits.argmax(1).tolist() == [scene.placed[0].thing.index for scene in some]
