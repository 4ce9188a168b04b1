"""The CLIP recipe: batches are deterministic, and a resumed run equals an uninterrupted one."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from clipkit.training.clip import UNKNOWN_TOKEN, CaptionTokenizer, ClipRecipe, Part, train, training_batch

SMALL = ClipRecipe(
    parts=(Part(4, 1e-3, 0.2), Part(2, 5e-4, 1.0)), batch=8, embed_dim=32, vision_width=16, text_width=64, text_layers=1
)
ONE_STEP = (Part(1, 1e-3, 0.2),)


def test_a_batch_is_deterministic_and_differs_from_the_next():
    tokenizer = CaptionTokenizer(SMALL)
    (images, tokens), again, after = (training_batch(SMALL, tokenizer, step) for step in (3, 3, 4))
    assert images.shape == (8, 3, 64, 64) and tokens.shape == (8, SMALL.context_length)
    assert torch.equal(images, again[0]) and torch.equal(tokens, again[1])
    assert not torch.equal(images, after[0])


def test_words_outside_the_vocabulary_become_the_unknown_token():
    tokenizer = CaptionTokenizer(SMALL)
    tokens = tokenizer.encode(["a dog", "a xylophone"])
    assert UNKNOWN_TOKEN not in tokens[0] and UNKNOWN_TOKEN in tokens[1]
    assert tokens[0, 0] == tokenizer.tokenizer.sot_token_id and tokens[0].max() == tokenizer.tokenizer.eot_token_id


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(tmp_path):
    class Killed(Exception):
        pass

    def losses_of(work: Path, die_at: int = 0) -> list[float]:
        seen: list[float] = []

        def report(line: dict) -> None:
            seen.append(line["loss"])
            if line["step"] == die_at:
                raise Killed

        with contextlib.suppress(Killed):
            train(SMALL, work, report=report, save_every=2)
        return seen

    uninterrupted = losses_of(tmp_path / "whole")
    first = losses_of(tmp_path / "killed", die_at=5)
    resumed = losses_of(tmp_path / "killed")
    assert len(uninterrupted) == 6 and len(first) == 5
    assert len(resumed) == 2, "it resumes from the last checkpoint, after step 4"
    assert np.allclose(first[:4] + resumed, uninterrupted, rtol=1e-4)
    assert losses_of(tmp_path / "killed") == [], "a finished run is not trained further"


def test_different_seeds_train_different_models(tmp_path):
    one = train(replace(SMALL, parts=ONE_STEP), tmp_path / "a")
    two = train(replace(SMALL, parts=ONE_STEP, seed=1), tmp_path / "b")
    assert not torch.equal(one.token_embedding.weight, two.token_embedding.weight)
