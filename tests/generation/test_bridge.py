"""Bridges: the fit, its scores, and the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derived_spaces import derive, random_space
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.errors import ClipkitError
from clipkit.generation import bridge
from clipkit.models.loading import load_encoder


@settings(max_examples=30, deadline=None)
@given(
    d=st.integers(2, 24),
    e=st.integers(2, 24),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(0.01, 100.0),
    shift=st.floats(0, 10.0),
)
def test_an_exact_linear_relation_is_recovered_including_norms(d, e, seed, size, shift):
    rng = np.random.default_rng(seed)
    x = (size * rng.standard_normal((100, d)) + size * shift).astype(np.float32)
    y = (x @ rng.standard_normal((d, e)) + size).astype(np.float32)
    fitted = bridge.fit("a", "b", x, y)
    assert fitted.report.cosine > 0.9999 and fitted.report.norm_error < 1e-2
    np.testing.assert_allclose(fitted.apply(x), y, rtol=0.02, atol=0.02 * np.abs(y).mean())
    assert fitted.report.recall_10 >= fitted.report.recall_1
    assert fitted.report.pictures == 100 and fitted.report.held_out == 20


def test_the_scale_compensates_for_shrinkage_under_noise():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 64)).astype(np.float32)
    y = (x @ rng.standard_normal((64, 48)) + 12 * rng.standard_normal((300, 48))).astype(np.float32)
    fitted = bridge.fit("a", "b", x, y)
    mapped, plain = fitted.apply(x), replace(fitted, scale=1.0).apply(x)
    wanted = np.linalg.norm(y, axis=1).mean()
    assert fitted.scale > 1.05
    assert abs(np.linalg.norm(mapped, axis=1).mean() - wanted) < abs(np.linalg.norm(plain, axis=1).mean() - wanted)


def test_scores_of_unrelated_embeddings_are_low():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 400, 32)).astype(np.float32)
    report = bridge.fit("a", "b", x, y).report
    assert report.cosine < 0.3 and report.recall_1 < 0.1 and report.recall_10 < 0.3


def test_a_bridge_between_linearly_related_models_holds_on_new_pictures(tmp_path):
    """With real encoders of random weights."""
    matrix = np.random.default_rng(1).standard_normal((32, 32)).astype(np.float32)
    first = load_encoder(str(random_space(tmp_path / "first")))
    second = load_encoder(str(derive(tmp_path / "first", tmp_path / "second", matrix)))
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (260, 2, 2, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    x, y = first.encode_images(pixels), second.encode_images(pixels)
    fitted = bridge.fit(first.space, second.space, x[:200], y[:200])
    assert fitted.report.recall_1 > 0.95 and fitted.report.cosine > 0.999
    mapped = fitted.apply(x[200:])
    cosines = (mapped * y[200:]).sum(1) / np.linalg.norm(mapped, axis=1) / np.linalg.norm(y[200:], axis=1)
    assert cosines.min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), np.linalg.norm(y[200:], axis=1), rtol=0.02)


def test_a_bridge_is_saved_and_loaded_and_a_truncated_file_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 8)).astype(np.float32)
    fitted = bridge.fit("a/b c", "/some/folder", x, x)
    path = bridge.save(fitted, tmp_path / "bridges")
    assert path.parent == tmp_path / "bridges" and [p.name for p in path.parent.iterdir()] == [path.name]
    (loaded,) = bridge.load_all(tmp_path / "bridges")
    assert (loaded.source, loaded.target, loaded.report) == (fitted.source, fitted.target, fitted.report)
    np.testing.assert_array_equal(loaded.apply(x), fitted.apply(x))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ClipkitError, match="bridge fit"):
        bridge.load_all(tmp_path / "bridges")


def test_too_few_pictures_are_refused():
    with pytest.raises(ClipkitError, match="at least 50"):
        bridge.fit("a", "b", np.ones((49, 4), np.float32), np.ones((49, 4), np.float32))
