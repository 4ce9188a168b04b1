"""The temperature scales the initial noise of Kandinsky 2.2; at 1 the pictures are those of the stock pipeline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline

from clipkit.generation import registry
from clipkit.generation.decoder import Conditioning, Settings
from clipkit.generation.kandinsky import KandinskyDecoder
from clipkit.generation.synthesis import resolve_settings

SEED = 7


@pytest.fixture(scope="module")
def tiny() -> KandinskyDecoder:
    return KandinskyDecoder(replace(registry.resolve_decoder("tiny"), temperature=1.0), "cpu")


def generated(decoder: KandinskyDecoder, guidance: float = 3.0) -> np.ndarray:
    wanted = Conditioning(np.random.default_rng(0).standard_normal(decoder.dimension).astype(np.float32))
    conditioning = decoder.prepare(wanted, Conditioning(None))
    return np.asarray(decoder.generate(conditioning, Settings(SEED, 2, guidance, 256), lambda step: None))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_at_1_the_latents_are_those_that_the_stock_pipeline_draws(tiny, monkeypatch, guidance):
    pictures = generated(tiny, guidance)
    call: Callable[..., Any] = KandinskyV22Pipeline.__call__

    def stock(pipeline: KandinskyV22Pipeline, **arguments: Any) -> Any:
        assert arguments.pop("latents") is not None
        return call(pipeline, **arguments | {"generator": torch.Generator().manual_seed(SEED)})

    monkeypatch.setattr(KandinskyV22Pipeline, "__call__", stock)
    np.testing.assert_array_equal(generated(tiny, guidance), pictures)


def test_a_lower_temperature_changes_the_picture_and_a_seed_still_determines_it(tiny, monkeypatch):
    plain = generated(tiny)
    monkeypatch.setattr(tiny, "entry", replace(tiny.entry, temperature=0.8))
    cooler = generated(tiny)
    assert not np.array_equal(cooler, plain)
    np.testing.assert_array_equal(generated(tiny), cooler)


def test_a_folder_may_set_its_temperature(kandinsky, tmp_path: Path):
    assert registry.resolve_decoder(str(kandinsky)).temperature == 1.0
    folder = tmp_path / "cooler"
    shutil.copytree(kandinsky, folder)
    facts = json.loads((folder / "clipkit.json").read_text())
    (folder / "clipkit.json").write_text(json.dumps(facts | {"temperature": 0.75}))
    assert registry.resolve_decoder(str(folder)).temperature == 0.75


def test_the_bundled_decoder_is_sampled_as_it_was_evaluated():
    """The evaluation reads clipkit.json; what users get must not differ from it."""
    entry = registry.resolve_decoder("tiny")
    facts = json.loads((entry.folder / "clipkit.json").read_text())
    settings = resolve_settings(entry, seed=1, steps=None, guidance=None, size=None)
    assert (settings.steps, settings.guidance, settings.size) == (facts["steps"], facts["guidance"], facts["size"])
    assert (entry.temperature, entry.native) == (facts["temperature"], facts["native"])
