"""The judge in the repository classifies by shape."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit.samples.painting import sprite_of
from clipkit.training import judge as judging
from clipkit.training import scoring
from clipkit.training.correlation import best_correlations
from clipkit.training.poses import in_canonical_poses
from clipkit.training.scrambling import scramble

JUDGE = Path(__file__).resolve().parents[2] / "scripts" / "judge.safetensors"


@pytest.fixture(scope="module")
def judge() -> judging.Judge:
    return judging.load(JUDGE)


@pytest.fixture(scope="module")
def scenes():
    return scoring.evaluation_scenes(120, things=1, held_out=False, seed=31)


def test_it_recognises_true_scenes(judge, scenes):
    canonical = scoring.paint_scenes([in_canonical_poses(scene) for scene in scenes])
    assert scoring.score_images(judge, canonical, scenes)["object"] >= 0.97
    assert scoring.score_images(judge, scoring.paint_scenes(scenes), scenes)["object"] >= 0.92


def test_it_recognises_them_in_grey_and_inverted(judge, scenes):
    images = scoring.paint_scenes([in_canonical_poses(scene) for scene in scenes])
    grey = np.repeat(images.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    right = [scene.placed[0].thing.index for scene in scenes]
    assert np.mean(judge.predict(grey).things.argmax(1) == right) >= 0.95
    assert np.mean(judge.predict(255 - images).things.argmax(1) == right) >= 0.9


def test_it_recognises_nothing_where_the_shape_is_destroyed(judge):
    assert judge.predict(scoring.paint_scrambled_scenes(120, seed=31)).nothing.mean() >= 0.95


def test_scrambling_changes_the_drawing_but_not_the_size():
    for index in range(0, 96, 8):
        sprite, other = sprite_of(index, 48), sprite_of((index + 17) % 96, 48)
        out = scramble(sprite, other, random.Random(index))
        assert out.mode == "RGBA" and out.size == sprite.size
        before, after = (
            np.asarray(Image.alpha_composite(Image.new("RGBA", (48, 48), "white"), x)) for x in (sprite, out)
        )
        assert np.abs(before.astype(int) - after).mean() > 8


def test_the_true_sprite_correlates_best_at_any_brightness(scenes):
    some = scenes[:6]
    images = (scoring.paint_scenes([in_canonical_poses(scene) for scene in some]) * 0.9).astype(np.uint8)
    fits = best_correlations(images, [scene.setting.index for scene in some])
    assert fits.argmax(1).tolist() == [scene.placed[0].thing.index for scene in some]
