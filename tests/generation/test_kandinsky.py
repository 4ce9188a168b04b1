"""A Kandinsky 2.2 checkpoint in a local folder generates pictures with the same code as the bundled decoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from clipkit.errors import BadQuery, DecoderNotAvailable
from clipkit.generation import availability, registry
from clipkit.generation.decoder import Conditioning
from clipkit.generation.synthesis import Condition, generate_images, resolve_settings, steer_away


def pictures(entry, conditions, count=1, seed=5, progress=None, **overrides) -> list[np.ndarray]:
    settings = replace(resolve_settings(entry, seed=seed, steps=None, guidance=None, size=None), **overrides)
    images = generate_images(entry, conditions, settings, count, device="cpu", progress=progress)
    return [np.asarray(image) for image, _ in images]


def test_text_images_and_negatives_condition_the_picture(kandinsky):
    entry = registry.resolve_decoder(str(kandinsky))
    red = Image.new("RGB", (40, 30), (200, 30, 30))
    (one,) = pictures(entry, [Condition("a dog", 1.0)])
    assert one.shape == (32, 32, 3)
    (again,) = pictures(entry, [Condition("a dog", 1.0)])
    assert np.array_equal(one, again)
    (other,) = pictures(entry, [Condition("a cat", 1.0)])
    (mixed,) = pictures(entry, [Condition("a dog", 1.0), Condition(red, 2.0)])
    (avoiding,) = pictures(entry, [Condition("a dog", 1.0), Condition("a cat", -0.5)])
    assert len({p.tobytes() for p in (one, other, mixed, avoiding)}) == 4


def test_seeds_count_up_and_a_picture_depends_on_its_own_seed_only(kandinsky):
    entry = registry.resolve_decoder(str(kandinsky))
    three = pictures(entry, [Condition("a dog", 1.0)], count=3, seed=7)
    (third,) = pictures(entry, [Condition("a dog", 1.0)], seed=9)
    assert np.array_equal(three[2], third)
    assert not np.array_equal(three[0], three[1])


def test_progress_counts_the_denoising_steps(kandinsky):
    seen = []
    pictures(
        registry.resolve_decoder(str(kandinsky)), [Condition("a dog", 1.0)], count=2, progress=seen.append, steps=3
    )
    assert [(p.done, p.total) for p in seen if p.stage == "generating picture 2 of 2"] == [(1, 3), (2, 3), (3, 3)]


def test_steps_guidance_and_size_change_the_picture(kandinsky):
    entry = registry.resolve_decoder(str(kandinsky))
    (plain,) = pictures(entry, [Condition("a dog", 1.0)])
    assert not np.array_equal(plain, pictures(entry, [Condition("a dog", 1.0)], steps=6)[0])
    assert not np.array_equal(plain, pictures(entry, [Condition("a dog", 1.0)], guidance=1.5)[0])
    assert pictures(entry, [Condition("a dog", 1.0)], size=50)[0].shape == (50, 50, 3)


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"steps": 0}, {"guidance": -1.0}, {"size": 8}, {"size": 100_000}, {"steps": 5000}]
)
def test_invalid_settings_are_refused_in_one_line(wrong):
    asked = {"seed": None, "steps": None, "guidance": None, "size": None} | wrong
    with pytest.raises(BadQuery) as error:
        resolve_settings(registry.resolve_decoder("tiny"), **asked)
    assert "\n" not in str(error.value)


def test_an_unknown_id_and_an_incomplete_folder_are_refused(tmp_path, kandinsky):
    with pytest.raises(DecoderNotAvailable, match="kandinsky-2-2"):
        registry.resolve_decoder("dall-e")
    incomplete = tmp_path / "incomplete"
    incomplete.mkdir()
    (incomplete / "model_index.json").write_text("{}")
    with pytest.raises(DecoderNotAvailable, match="incomplete"):
        pictures(registry.resolve_decoder(str(incomplete)), [Condition("a dog", 1.0)])


def test_a_decoder_that_is_not_on_disk_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    reason = availability.why_unavailable(registry.resolve_decoder("kandinsky-2-2"))
    assert "clipkit generate --decoder kandinsky-2-2" in reason and "GB" in reason


class TestSteeringAway:
    @given(arrays(np.float32, (2, 8), elements=st.floats(-5, 5, width=32)))
    def test_the_norm_stays_and_the_similarity_does_not_grow(self, pair):
        wanted, away = pair
        assume(np.linalg.norm(wanted) > 0.1 and np.linalg.norm(away) > 0.1)
        steered = steer_away(Conditioning(wanted), Conditioning(away)).embedding
        assert np.linalg.norm(steered) == pytest.approx(np.linalg.norm(wanted), rel=1e-3)
        assert steered @ away <= wanted @ away + 1e-3

    def test_negatives_have_an_effect_without_guidance_too(self, kandinsky):
        entry = registry.resolve_decoder(str(kandinsky))
        (plain,) = pictures(entry, [Condition("a dog", 1.0)], guidance=1.0)
        (avoiding,) = pictures(entry, [Condition("a dog", 1.0), Condition("a cat", -1.0)], guidance=1.0)
        assert not np.array_equal(plain, avoiding)
