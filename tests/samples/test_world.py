"""The sample world is deterministic, holds out combinations, and captions what its scenes show."""

import random
import re
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clipkit.samples.captions import caption, vocabulary
from clipkit.samples.painting import paint, paint_setting
from clipkit.samples.world import compose, is_held_out, scenes, settings, things, twin


def test_the_world_has_96_things_and_16_settings():
    assert len(things()) == 96 and len(settings()) == 16
    names = [name for thing in things() for name in thing.names]
    assert len(names) == len(set(names))


def test_scenes_and_their_images_are_determined_by_the_seed():
    first, second = (list(islice(scenes(11), 20)) for _ in range(2))
    assert first == second
    for scene in first[:5]:
        assert np.array_equal(np.asarray(paint(scene, 64)), np.asarray(paint(scene, 64)))


def test_training_never_sees_a_held_out_combination():
    seen = list(islice(scenes(1), 3000))
    assert not any(scene.held_out for scene in seen)
    held = list(islice(scenes(1, held_out=True), 200))
    assert all(scene.held_out for scene in held)
    assert not {scene.content for scene in seen} & {scene.content for scene in held}


def test_about_a_tenth_of_the_pairs_is_held_out():
    pairs = [(thing.name, setting.name) for thing in things() for setting in settings()]
    assert 0.07 < np.mean([is_held_out(*pair) for pair in pairs]) < 0.13


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31))
def test_a_complete_caption_names_all_things_and_the_setting_within_the_vocabulary(seed):
    rng = random.Random(seed)
    scene = next(scenes(seed))
    text = caption(scene, rng)
    assert set(re.findall(r"[a-z]+", text)) <= vocabulary()
    assert any(phrase in text for phrase in scene.setting.phrases)
    for placed in scene.placed:
        assert any(name in text for name in (*placed.thing.names, placed.thing.plural))


def test_a_twin_swaps_the_sides():
    rng = random.Random(3)
    scene = compose(settings()[0], things()[:2], rng, "left")
    other = twin(scene, rng)
    assert other.content == scene.content and other.relation == "right"
    assert scene.placed[0].x < scene.placed[1].x and other.placed[0].x > other.placed[1].x
    assert "left" in caption(scene, rng, place=True) or "right" in caption(scene, rng, place=True)


@pytest.mark.parametrize("setting", settings(), ids=lambda s: s.name)
def test_every_setting_is_painted_unlike_any_other(setting):
    mine = np.asarray(paint_setting(setting, 1, 32), dtype=float)
    again = np.asarray(paint_setting(setting, 2, 32), dtype=float)
    assert mine.shape == (32, 32, 3)
    others = [np.asarray(paint_setting(s, 3, 32), dtype=float) for s in settings() if s != setting]
    assert np.abs(mine - again).mean() < min(np.abs(mine - other).mean() for other in others)
