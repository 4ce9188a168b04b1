"""Codec, decoder, priors, judge and scores, as far as a few steps show."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipkit.errors import ClipkitError
from clipkit.generation.codec import PatchCodec
from clipkit.generation.decoder import quiet_diffusers
from clipkit.training import cache, codec, decoder, prior, scoring
from clipkit.training.judge import targets
from clipkit.training.pictures import CaptionedFolder, EmojiWorld


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    world = EmojiWorld(200)
    return np.stack([np.asarray(world.picture(i, 64)) for i in range(len(world))])


def test_the_codec_starts_at_the_principal_components_and_gets_better(squares, tmp_path):
    recipe = codec.CodecRecipe(steps=30, batch=16)
    untrained = recipe.build()
    codec.start_at_principal_components(untrained, squares)
    start = codec.psnr(untrained, squares[:50])
    assert start > 25
    trained = codec.train(recipe, squares, squares[:50], tmp_path)
    assert codec.psnr(trained, squares[:50]) > start


def test_latents_are_centred_and_of_mean_square_one_whatever_the_scale(squares):
    model = codec.CodecRecipe().build().eval()
    codec.start_at_principal_components(model, squares)
    before = model(cache.as_input(squares[:4]))
    codec.scale_latents(model, squares)
    with torch.no_grad():
        latents = model.encode(cache.as_input(squares), return_dict=False)[0]
        torch.testing.assert_close(model(cache.as_input(squares[:4])), before, rtol=1e-4, atol=1e-4)
    assert abs(float(latents.mean())) < 0.02
    assert float(latents.square().mean()) == pytest.approx(1, abs=0.02)


def test_the_exported_pipeline_loads_by_itself_and_takes_embeddings_as_they_are(tmp_path):
    """The scale that the UNet was trained with is folded into its first layers."""
    recipe = decoder.DecoderRecipe(channels=(32, 64))
    rng = np.random.default_rng(0)
    embeddings = (rng.normal(size=(64, 32)) * 5 + 9).astype(np.float32)
    scale = decoder.Scale.of(embeddings)
    plain, folded = recipe.build(32, (8, 8, 8)).eval(), recipe.build(32, (8, 8, 8)).eval()
    scale.folded(folded)
    raw = torch.from_numpy(embeddings[:3])
    x, t = torch.randn(3, 8, 8, 8), torch.tensor([10, 500, 900])
    with torch.inference_mode():
        trained = plain(x, t, None, added_cond_kwargs={"image_embeds": scale(raw)}).sample
        shipped = folded(x, t, None, added_cond_kwargs={"image_embeds": raw}).sample
    torch.testing.assert_close(shipped, trained, rtol=1e-3, atol=1e-4)
    scale.unfolded(folded)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(folded.state_dict()[key], value, rtol=1e-3, atol=1e-4)
    scale.folded(folded)

    pipeline = decoder.pipeline(folded, recipe, PatchCodec(8))
    pipeline.save_pretrained(tmp_path)
    with quiet_diffusers():
        again = KandinskyV22Pipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    seeds = range(3)
    one = scoring.sample(pipeline, raw, seeds, steps=2)
    assert np.array_equal(one, scoring.sample(again, raw, seeds, steps=2))
    assert one.shape == (3, 64, 64, 3)


def test_ridge_regression_finds_a_linear_relation():
    rng = np.random.default_rng(0)
    text = rng.normal(size=(500, 16))
    unit = text / np.linalg.norm(text, axis=1, keepdims=True)
    image = unit @ rng.normal(size=(16, 16)) + 3
    model = prior.ridge(text[:400], image[:400], strength=1e-6)
    guess = model.predict(torch.from_numpy(text[400:]).float()).numpy()
    np.testing.assert_allclose(guess, image[400:], atol=1e-3)


def test_embeddings_and_latents_are_computed_once_and_go_on_after_a_kill(tmp_path):
    calls = []

    def make(start: int, end: int) -> np.ndarray:
        calls.append((start, end))
        if start >= cache.CHUNK and len(calls) == 2:
            raise KeyboardInterrupt
        return np.arange(start, end)[:, None]

    rows = cache.Cache(tmp_path, cache.CHUNK * 2 + 7)
    with pytest.raises(KeyboardInterrupt):
        rows.rows("numbers", make, None)
    array = rows.rows("numbers", make, None)
    assert np.array_equal(array[:, 0], np.arange(cache.CHUNK * 2 + 7))
    assert calls == [(0, 500), (500, 1000), (500, 1000), (1000, 1007)]
    rows.rows("numbers", make, None)
    assert len(calls) == 4
    with pytest.raises(ClipkitError, match="another --work folder"):
        cache.Cache(tmp_path, 3).rows("numbers", make, None)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_drawing_rows_keeps_their_order(rows):
    array = np.arange(200).reshape(100, 2)
    assert np.array_equal(cache.draw(array, torch.tensor(rows)), array[rows])


class TestCaptionedFolder:
    def test_captions_beside_pictures(self, tmp_path):
        Image.new("RGB", (90, 60), (255, 0, 0)).save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("something red\n")
        Image.new("RGB", (9, 6)).save(tmp_path / "without.png")
        pictures = CaptionedFolder(tmp_path)
        assert len(pictures) == 1 and pictures.caption(0) == "something red"
        assert pictures.picture(0, 32).size == (32, 32)

    def test_captions_in_a_listing(self, tmp_path):
        (tmp_path / "sub").mkdir()
        Image.new("L", (20, 60), 9).save(tmp_path / "sub" / "b.jpg")
        (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "sub/b.jpg", "text": "dark"}) + "\n\n")
        pictures = CaptionedFolder(tmp_path)
        assert pictures.caption(0) == "dark" and pictures.picture(0, 16).mode == "RGB"

    def test_no_captions_and_torn_pictures_are_one_line(self, tmp_path):
        with pytest.raises(ClipkitError, match="metadata.jsonl"):
            CaptionedFolder(tmp_path)
        (tmp_path / "c.jpg").write_bytes(b"no picture")
        (tmp_path / "c.txt").write_text("torn")
        with pytest.raises(ClipkitError, match="c.jpg"):
            CaptionedFolder(tmp_path).picture(0, 16)


def test_world_pictures_are_the_same_for_the_same_number_and_keep_out_what_is_held_out():
    world, held = EmojiWorld(30), EmojiWorld(30, held_out=True)
    assert world.scene(3) == EmojiWorld(30).scene(3) and world.scene(3) != EmojiWorld(30, seed=1).scene(3)
    assert not any(world.scene(i).held_out for i in range(30))
    assert all(held.scene(i).held_out for i in range(30))
    assert world.caption(3) == EmojiWorld(99).caption(3)


class TestScores:
    def test_the_verdict_is_compared_with_the_scene(self):
        scenes = scoring.scenes_to_judge(20, things=2, held_out=False)
        present, places, settings_ = targets(scenes)
        from clipkit.training.judge import Verdict

        one_hot = np.eye(16, dtype=np.float32)[settings_.numpy()]
        right = Verdict(present.numpy(), places.numpy(), one_hot, np.zeros((20, 2), np.float32))
        assert scoring.judged(right, scenes) == {"both": 1.0, "placed": 1.0, "background": 1.0}
        swapped = Verdict(present.numpy(), 1 - places.numpy(), one_hot[::-1], right.features)
        wrong = scoring.judged(swapped, scenes)
        assert wrong["placed"] == 0.0 and wrong["background"] < 0.5

    def test_frechet_distance_of_normal_distributions(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(20000, 3)), rng.normal(size=(20000, 3)) * 2 + [1, 0, 0]
        assert scoring.frechet(a, a) == pytest.approx(0, abs=1e-6)
        # |mean difference|^2 + sum (s1 - s2)^2 = 1 + 3
        assert scoring.frechet(a, b) == pytest.approx(4, rel=0.05)

    def test_spread_is_zero_for_equal_features(self):
        assert scoring.spread(np.ones((5, 4))) == pytest.approx(0)
        assert scoring.spread(np.eye(4)) == pytest.approx(1)
