"""Arrays are computed once, an interrupted fill resumes, and rows are read in any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.errors import ClipkitError
from clipkit.training import precomputed
from clipkit.training.conditioning_data import ConditioningEmbeddings, sampling_weights


def test_arrays_are_computed_once_and_resumed_after_an_interruption(tmp_path):
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
def test_rows_are_returned_in_the_order_requested(rows):
    array = np.arange(200).reshape(100, 2)
    assert np.array_equal(precomputed.take_rows(array, torch.tensor(rows)), array[rows])


def test_embeddings_are_sampled_from_images_and_from_captions():
    own, guessed = np.zeros((50, 4), np.float16), np.ones((50, 2, 4), np.float16)
    guessed[:, 1] = 2
    drawn = ConditioningEmbeddings(own, guessed).sample(
        torch.arange(50).repeat(20), 0.5, torch.Generator().manual_seed(0)
    )[:, 0]
    shares = [float((drawn == value).float().mean()) for value in (0, 1, 2)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.05)


def test_images_of_two_things_are_sampled_more_often():
    assert sampling_weights(np.array([[3, 9, -1], [3, 4, 9]]), 2.5).tolist() == [1.0, 2.5]
