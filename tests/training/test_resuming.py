"""Every training stage, interrupted and resumed, has the loss curve of an uninterrupted run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipkit.training import decoder, judge, prior, sketch, upsampler
from clipkit.training.conditioning_data import ConditioningEmbeddings
from clipkit.training.data_sources import PaintedScenes

STEPS = 6


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    world = PaintedScenes(40)
    return np.stack([np.asarray(world.image(i, 64)) for i in range(len(world))])


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 32)).astype(np.float16)


def run_sketch(work, images, embeddings, **options):
    recipe = sketch.SketchRecipe(steps=STEPS, batch=4, named=4, width=16, details=4, features=4)
    parts = np.array([[i % 5, 5 + i % 3, -1] for i in range(40)], np.int16)
    extra = (embeddings[:20], parts[:20])
    return sketch.train(recipe, images, conditions(embeddings), parts, (5, 3), work, extra=extra, **options)


def run_sketch_without_parts(work, images, embeddings, **options):
    recipe = sketch.SketchRecipe(steps=STEPS, batch=4, width=16, features=4)
    return sketch.train(recipe, images, conditions(embeddings), np.full((40, 3), -1, np.int16), (), work, **options)


def run_decoder(work, images, embeddings, **options):
    drawn = sketch.SketchRecipe(width=16, features=4).build(32, 64, ())
    recipe = decoder.DecoderRecipe(steps=STEPS, batch=4, channels=(32, 32))
    return decoder.train(recipe, drawn, images, conditions(embeddings), work, **options)


def conditions(embeddings) -> ConditioningEmbeddings:
    return ConditioningEmbeddings(embeddings, np.stack([embeddings[::-1], embeddings + 1], 1))


def run_perceptron(work, images, embeddings, **options):
    recipe = prior.MlpPriorRecipe(steps=STEPS, batch=8, width=32)
    return prior.train_mlp(recipe, embeddings[::-1].copy(), embeddings, work, **options)


def run_diffusion_prior(work, images, embeddings, **options):
    recipe = prior.DiffusionPriorRecipe(steps=STEPS, batch=8, heads=1, layers=1)
    return prior.train_diffusion(recipe, embeddings[::-1].copy(), embeddings, work, **options)


def run_upsampler(work, images, embeddings, **options):
    recipe = upsampler.UpsamplerRecipe(steps=STEPS, batch=2, width=8, middle=8, blocks=1, factor=2, cut=24)
    small = images[:, ::2, ::2]
    return upsampler.train(recipe, small, small[..., ::-1], images, embeddings, work, **options)


def run_judge(work, images, embeddings, **options):
    return judge.train(judge.JudgeRecipe(steps=STEPS, batch=8), work, undertrained=images[:9], **options)


RUNS = [
    run_sketch,
    run_sketch_without_parts,
    run_decoder,
    run_perceptron,
    run_diffusion_prior,
    run_upsampler,
    run_judge,
]


@pytest.mark.parametrize("run", RUNS)
def test_a_resumed_run_equals_an_uninterrupted_one(run, tmp_path, images, embeddings):
    whole, first, second = [], [], []
    uninterrupted = run(tmp_path / "whole", images, embeddings, report=whole.append)
    run(tmp_path / "interrupted", images, embeddings, report=first.append, stop_at=3)
    resumed = run(tmp_path / "interrupted", images, embeddings, report=second.append)
    losses = [line["loss"] for line in whole]
    assert len(losses) == STEPS and len(first) == 3
    assert [line["loss"] for line in first + second] == pytest.approx(losses, rel=1e-5)
    assert len(set(losses)) == STEPS
    for key, value in uninterrupted.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert second[-1]["seconds"] >= first[-1]["seconds"]


def test_a_finished_run_reports_its_seconds_again(tmp_path, images, embeddings):
    lines: list[dict] = []
    run_judge(tmp_path, images, embeddings, report=lines.append)
    again: list[dict] = []
    run_judge(tmp_path, images, embeddings, report=again.append)
    assert again[0]["step"] == STEPS and again[0]["seconds"] == lines[-1]["seconds"]
