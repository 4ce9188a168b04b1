"""Codec, sketch, decoder, priors and scores, as far as a few steps show."""

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
from clipkit.generation.sketch import Sketch
from clipkit.generation.upsampler import Upsampler
from clipkit.training import decoder, precomputed, prior, scoring, upsampler
from clipkit.training.conditioning_data import ConditioningEmbeddings, Standardiser, sampling_weights
from clipkit.training.data_sources import CaptionedFolder, PaintedScenes
from clipkit.training.judge import targets
from clipkit.training.sketch import SketchRecipe, multi_hot
from clipkit.training.tensors import to_tensor

GROUPS = (5, 5, 3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    world = PaintedScenes(40)
    return np.stack([np.asarray(world.image(i, 64)) for i in range(len(world))])


@pytest.fixture(scope="module")
def unet(images):
    """An untrained decoder of embeddings of 32 values."""
    rng = np.random.default_rng(0)
    embeddings = (rng.normal(size=(64, 32)) * 5 + 9).astype(np.float32)
    sketch = SketchRecipe(width=32, features=8, details=4).build(32, 64, GROUPS)
    unet = decoder.DecoderRecipe(channels=(32, 32)).build(sketch, Standardiser.fit(embeddings)).eval()
    decoder.fit_residual(unet, images, torch.from_numpy(embeddings[:40]))
    return unet


def test_the_codec_loses_nothing_and_its_latents_are_scaled(images):
    codec = PatchCodec()
    codec.basis.copy_(torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0)))[0])
    pixels = to_tensor(images)
    latents = codec.encode(pixels, return_dict=False)[0]
    assert latents.shape == (40, codec.latent_channels, 16, 16)
    torch.testing.assert_close(latents.square().sum(), 9 * pixels.square().sum())
    torch.testing.assert_close(codec.decode(latents).sample, pixels)


class TestSketch:
    @given(st.lists(st.floats(-30, 30, width=32), min_size=13, max_size=13))
    @settings(max_examples=60, deadline=None)
    def test_it_draws_at_most_one_part_of_a_group(self, logits):
        decided = Sketch(8, 16, groups=GROUPS, width=8).decided(torch.tensor([logits]))[0]
        for group in decided.split(GROUPS):
            assert group.min() >= 0 and float(group.sum()) <= 1 + 1e-5

    def test_a_likely_part_is_drawn_whole_and_unlikely_ones_not_at_all(self):
        logits = torch.full((1, 13), -9.0)
        logits[0, [2, 11]] = 4.0
        decided = Sketch(8, 16, groups=GROUPS, width=8).decided(logits)[0]
        torch.testing.assert_close(decided, multi_hot(np.array([[2, 11]]), 13)[0], atol=0.01, rtol=0)

    def test_without_known_parts_it_draws_from_the_embedding_alone(self):
        sketch = SketchRecipe(width=32, features=8).build(16, 16, ())
        one, other = sketch(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)))
        assert one.shape == (3, 16, 16) and not torch.equal(one, other)


class TestSketchUNet:
    def test_the_exported_pipeline_loads_by_itself_and_makes_the_same_pictures(self, unet, tmp_path):
        pipeline = decoder.build_pipeline(unet, decoder.DecoderRecipe(channels=(32, 32)))
        pipeline.save_pretrained(tmp_path)
        with quiet_diffusers():
            again = KandinskyV22Pipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
        raw = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
        one = scoring.sample(pipeline, raw, range(3), steps=2)
        assert np.array_equal(one, scoring.sample(again, raw, range(3), steps=2))
        assert one.shape == (3, 64, 64, 3)
        assert not np.array_equal(one, scoring.sample(again, raw, range(3), steps=2, guidance=3.0))

    def test_the_linear_estimate_is_the_best_one_for_a_normal_residual(self, unet):
        """For residuals of the deviation that it assumes, its error has the deviation that it says, at every noise."""
        rng = torch.Generator().manual_seed(0)
        n, deviation = 64, unet.deviation.view(1, -1, 1, 1)
        mean = torch.randn(1, 48, 16, 16, generator=rng).expand(n, -1, -1, -1)
        clean = mean + deviation * torch.randn(mean.shape, generator=rng)
        noise, known = torch.randn(mean.shape, generator=rng), torch.ones(n, 1, 1, 1)
        for step in (0, 100, 500, 900, 999):
            t = torch.full((n,), step)
            signal, sigma = unet.levels(t)
            noisy, velocity = signal * clean + sigma * noise, signal * noise - sigma * clean
            residual, estimate, error = unet.linear_estimate(noisy, t, mean, known)
            assert float(residual.std()) == pytest.approx(1, abs=0.02)
            assert float(((velocity - estimate) / error).std()) == pytest.approx(1, abs=0.02)

    def test_an_embedding_of_zeros_stands_for_no_condition(self, unet):
        mean, known, condition = unet.condition(torch.zeros(2, 32), torch.float32)
        assert not mean.any() and not known.any() and not condition.any()
        mean, known, _ = unet.condition(torch.ones(2, 32), torch.float32)
        assert mean.any() and known.all()

    def test_it_keeps_its_noise_levels_in_half_precision(self, unet):
        levels = unet.levels(torch.tensor([0, 999]))
        halved = decoder.build_pipeline(unet, decoder.DecoderRecipe(channels=(32, 32))).to(dtype=torch.float16).unet
        assert all(torch.equal(a, b) for a, b in zip(levels, halved.levels(torch.tensor([0, 999])), strict=True))
        unet.float()


def test_the_upsampler_starts_as_interpolation_and_takes_embeddings():
    model = Upsampler(32, 8, 16, 1, 4)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    plain = torch.nn.functional.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(model(x, torch.randn(2, 32)), plain)


def test_redrawing_keeps_what_a_picture_shows(unet, images):
    """Less noise leaves more of it."""
    pipeline = decoder.build_pipeline(unet, decoder.DecoderRecipe(channels=(32, 32)))
    embeddings = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    little, much = (upsampler.sdedit(pipeline, images[:4], embeddings, steps=10, last=last) for last in (1, 8))
    assert upsampler.psnr(little, images[:4]) > upsampler.psnr(much, images[:4])
    assert upsampler.psnr(little, images[:4]) > 15


def test_conditions_are_drawn_from_pictures_and_from_captions():
    own, guessed = np.zeros((50, 4), np.float16), np.ones((50, 2, 4), np.float16)
    guessed[:, 1] = 2
    drawn = ConditioningEmbeddings(own, guessed).sample(
        torch.arange(50).repeat(20), 0.5, torch.Generator().manual_seed(0)
    )[:, 0]
    shares = [float((drawn == value).float().mean()) for value in (0, 1, 2)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.05)


def test_pictures_of_two_things_are_drawn_more_often():
    assert sampling_weights(np.array([[3, 9, -1], [3, 4, 9]]), 2.5).tolist() == [1.0, 2.5]


def test_ridge_regression_finds_a_linear_relation():
    rng = np.random.default_rng(0)
    text = rng.normal(size=(500, 16))
    unit = text / np.linalg.norm(text, axis=1, keepdims=True)
    image = unit @ rng.normal(size=(16, 16)) + 3
    model = prior.fit_linear(text[:400], image[:400], strength=1e-6)
    guess = model.predict(torch.from_numpy(text[400:]).float()).numpy()
    np.testing.assert_allclose(guess, image[400:], atol=1e-3)


def test_embeddings_and_latents_are_computed_once_and_go_on_after_a_kill(tmp_path):
    calls = []

    def make(start: int, end: int) -> np.ndarray:
        calls.append((start, end))
        if start >= precomputed.CHUNK and len(calls) == 2:
            raise KeyboardInterrupt
        return np.arange(start, end)[:, None]

    rows = precomputed.ArrayCache(tmp_path, precomputed.CHUNK * 2 + 7)
    with pytest.raises(KeyboardInterrupt):
        rows.load_or_compute("numbers", make, None)
    array = rows.load_or_compute("numbers", make, None)
    assert np.array_equal(array[:, 0], np.arange(precomputed.CHUNK * 2 + 7))
    assert calls == [(0, 500), (500, 1000), (500, 1000), (1000, 1007)]
    rows.load_or_compute("numbers", make, None)
    assert len(calls) == 4
    with pytest.raises(ClipkitError, match="another --work folder"):
        precomputed.ArrayCache(tmp_path, 3).load_or_compute("numbers", make, None)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_drawing_rows_keeps_their_order(rows):
    array = np.arange(200).reshape(100, 2)
    assert np.array_equal(precomputed.take_rows(array, torch.tensor(rows)), array[rows])


class TestCaptionedFolder:
    def test_captions_beside_pictures(self, tmp_path):
        Image.new("RGB", (90, 60), (255, 0, 0)).save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("something red\n")
        Image.new("RGB", (9, 6)).save(tmp_path / "without.png")
        source = CaptionedFolder(tmp_path)
        assert len(source) == 1 and source.caption(0) == "something red"
        assert source.image(0, 32).size == (32, 32)

    def test_captions_in_a_listing(self, tmp_path):
        (tmp_path / "sub").mkdir()
        Image.new("L", (20, 60), 9).save(tmp_path / "sub" / "b.jpg")
        (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "sub/b.jpg", "text": "dark"}) + "\n\n")
        source = CaptionedFolder(tmp_path)
        assert source.caption(0) == "dark" and source.image(0, 16).mode == "RGB"

    def test_no_captions_and_torn_pictures_are_one_line(self, tmp_path):
        with pytest.raises(ClipkitError, match="metadata.jsonl"):
            CaptionedFolder(tmp_path)
        (tmp_path / "c.jpg").write_bytes(b"no picture")
        (tmp_path / "c.txt").write_text("torn")
        with pytest.raises(ClipkitError, match="c.jpg"):
            CaptionedFolder(tmp_path).image(0, 16)


def test_world_pictures_are_the_same_for_the_same_number_and_keep_out_what_is_held_out():
    world, held = PaintedScenes(30), PaintedScenes(30, held_out=True)
    assert world.scene(3) == PaintedScenes(30).scene(3) and world.scene(3) != PaintedScenes(30, seed=1).scene(3)
    assert not any(world.scene(i).held_out for i in range(30))
    assert all(held.scene(i).held_out for i in range(30))
    assert world.caption(3) == PaintedScenes(99).caption(3)


class TestScores:
    def test_the_verdict_is_compared_with_the_scene(self):
        scenes = scoring.evaluation_scenes(20, things=2, held_out=False)
        present, places, settings_ = targets([(scene, [True, True]) for scene in scenes])
        from clipkit.training.judge import Verdict

        one_hot = np.eye(16, dtype=np.float32)[settings_.numpy()]
        right = Verdict(present.numpy(), places.numpy(), one_hot, np.zeros((20, 2), np.float32))
        assert scoring.score_verdict(right, scenes) == {"both": 1.0, "placed": 1.0, "background": 1.0, "nothing": 0.0}
        unsure = Verdict(present.numpy() * 0.1, places.numpy(), one_hot, right.features)
        assert (
            scoring.score_verdict(unsure, scenes)["both"] == 0.0
            and scoring.score_verdict(unsure, scenes)["nothing"] == 1.0
        )
        swapped = Verdict(present.numpy(), 1 - places.numpy(), one_hot[::-1], right.features)
        wrong = scoring.score_verdict(swapped, scenes)
        assert wrong["placed"] == 0.0 and wrong["background"] < 0.5

    def test_frechet_distance_of_normal_distributions(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(20000, 3)), rng.normal(size=(20000, 3)) * 2 + [1, 0, 0]
        assert scoring.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
        # |mean difference|^2 + sum (s1 - s2)^2 = 1 + 3
        assert scoring.frechet_distance(a, b) == pytest.approx(4, rel=0.05)

    def test_spread_is_zero_for_equal_features(self):
        assert scoring.diversity(np.ones((5, 4))) == pytest.approx(0)
        assert scoring.diversity(np.eye(4)) == pytest.approx(1)
