"""Codec, sketch, decoder, upsampler and priors, as far as untrained models show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.generation.codec import PatchCodec
from clipkit.generation.decoder import quiet_diffusers
from clipkit.generation.sketch import Sketch
from clipkit.generation.upsampler import Upsampler
from clipkit.training import decoder, prior, scoring, upsampler
from clipkit.training.conditioning_data import Standardiser
from clipkit.training.data_sources import PaintedScenes
from clipkit.training.sketch import SketchRecipe, multi_hot
from clipkit.training.tensors import to_tensor

GROUPS = (5, 5, 3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    world = PaintedScenes(40)
    return np.stack([np.asarray(world.image(i, 64)) for i in range(len(world))])


@pytest.fixture(scope="module")
def unet(images):
    """An untrained decoder for embeddings of 32 dimensions."""
    rng = np.random.default_rng(0)
    embeddings = (rng.normal(size=(64, 32)) * 5 + 9).astype(np.float32)
    sketch = SketchRecipe(width=32, features=8, details=4).build(32, 64, GROUPS)
    unet = decoder.DecoderRecipe(channels=(32, 32)).build(sketch, Standardiser.fit(embeddings)).eval()
    decoder.fit_residual(unet, images, torch.from_numpy(embeddings[:40]))
    return unet


def test_the_codec_is_lossless_and_its_latents_are_scaled(images):
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

    def test_a_probable_part_is_drawn_fully_and_improbable_ones_not_at_all(self):
        logits = torch.full((1, 13), -9.0)
        logits[0, [2, 11]] = 4.0
        decided = Sketch(8, 16, groups=GROUPS, width=8).decided(logits)[0]
        torch.testing.assert_close(decided, multi_hot(np.array([[2, 11]]), 13)[0], atol=0.01, rtol=0)

    def test_without_groups_it_draws_from_the_embedding_alone(self):
        sketch = SketchRecipe(width=32, features=8).build(16, 16, ())
        one, other = sketch(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)))
        assert one.shape == (3, 16, 16) and not torch.equal(one, other)


class TestSketchUNet:
    def test_the_saved_pipeline_loads_and_generates_the_same_images(self, unet, tmp_path):
        pipeline = decoder.build_pipeline(unet, decoder.DecoderRecipe(channels=(32, 32)))
        pipeline.save_pretrained(tmp_path)
        with quiet_diffusers():
            again = KandinskyV22Pipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
        raw = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
        one = scoring.sample(pipeline, raw, range(3), steps=2)
        assert np.array_equal(one, scoring.sample(again, raw, range(3), steps=2))
        assert one.shape == (3, 64, 64, 3)
        assert not np.array_equal(one, scoring.sample(again, raw, range(3), steps=2, guidance=3.0))

    def test_the_linear_estimate_is_calibrated_for_normal_residuals(self, unet):
        """If residuals have the assumed standard deviation, its error has the predicted one, at every noise level."""
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

    def test_a_zero_embedding_means_no_condition(self, unet):
        mean, known, condition = unet.condition(torch.zeros(2, 32), torch.float32)
        assert not mean.any() and not known.any() and not condition.any()
        mean, known, _ = unet.condition(torch.ones(2, 32), torch.float32)
        assert mean.any() and known.all()

    def test_noise_levels_stay_exact_in_half_precision(self, unet):
        levels = unet.levels(torch.tensor([0, 999]))
        halved = decoder.build_pipeline(unet, decoder.DecoderRecipe(channels=(32, 32))).to(dtype=torch.float16).unet
        assert all(torch.equal(a, b) for a, b in zip(levels, halved.levels(torch.tensor([0, 999])), strict=True))
        unet.float()


def test_the_upsampler_starts_as_interpolation_and_takes_embeddings():
    model = Upsampler(32, 8, 16, 1, 4)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    plain = torch.nn.functional.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(model(x, torch.randn(2, 32)), plain)


def test_sdedit_preserves_more_of_an_image_with_less_noise(unet, images):
    pipeline = decoder.build_pipeline(unet, decoder.DecoderRecipe(channels=(32, 32)))
    embeddings = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    little, much = (upsampler.sdedit(pipeline, images[:4], embeddings, steps=10, last=last) for last in (1, 8))
    assert upsampler.psnr(little, images[:4]) > upsampler.psnr(much, images[:4])
    assert upsampler.psnr(little, images[:4]) > 15


def test_ridge_regression_finds_a_linear_relation():
    rng = np.random.default_rng(0)
    text = rng.normal(size=(500, 16))
    unit = text / np.linalg.norm(text, axis=1, keepdims=True)
    image = unit @ rng.normal(size=(16, 16)) + 3
    model = prior.fit_linear(text[:400], image[:400], strength=1e-6)
    guess = model.predict(torch.from_numpy(text[400:]).float()).numpy()
    np.testing.assert_allclose(guess, image[400:], atol=1e-3)
