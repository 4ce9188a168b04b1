"""Interpolation of embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipkit.errors import BadQuery
from clipkit.generation.operations.blend import way
from clipkit.generation.operations.interpolation import interpolate, slerp, turn
from clipkit.vectors.unit import unit

VECTORS = arrays(np.float64, 8, elements=st.floats(-5, 5)).filter(lambda v: np.linalg.norm(v) > 0.1)
SHARES = st.floats(0, 1)


def angle(a: np.ndarray, b: np.ndarray) -> float:
    a, b = unit(a, np.float64), unit(b, np.float64)
    return float(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


@settings(deadline=None)
@given(VECTORS, VECTORS, SHARES)
def test_two_embeddings_are_joined_by_an_even_arc_and_even_norms(a: np.ndarray, b: np.ndarray, t: float):
    if angle(a, b) > 3.1:
        return
    between = interpolate(np.stack([a, b]), [1 - t, t])
    assert between.dtype == np.float32
    norms = np.linalg.norm(a), np.linalg.norm(b)
    assert np.linalg.norm(between) == pytest.approx((1 - t) * norms[0] + t * norms[1], rel=1e-5)
    assert angle(between, a) == pytest.approx(t * angle(a, b), abs=2e-3)
    assert angle(between, b) == pytest.approx((1 - t) * angle(a, b), abs=2e-3)


@settings(deadline=None)
@given(st.lists(VECTORS, min_size=3, max_size=5), st.integers(0, 4))
def test_a_weight_of_one_returns_that_embedding(vectors: list[np.ndarray], chosen: int):
    chosen %= len(vectors)
    weights = [float(i == chosen) for i in range(len(vectors))]
    assert np.allclose(interpolate(np.stack(vectors), weights), vectors[chosen], rtol=1e-6)


def test_the_mean_of_several_lies_where_no_shift_brings_it_nearer():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(4, 16)) + 2
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    mean = interpolate(points, weights)

    def cost(direction: np.ndarray) -> float:
        return sum(w * angle(direction, p) ** 2 for w, p in zip(weights, points, strict=True))

    for _ in range(50):
        assert cost(mean) < cost(unit(mean, np.float64) + rng.normal(size=16) * 0.01) + 1e-9
    # The order of the items does not matter.
    assert np.allclose(mean, interpolate(points[::-1], weights[::-1]), atol=1e-5)


def test_a_turn_keeps_the_norm_and_moves_towards_the_direction():
    rng = np.random.default_rng(1)
    embedding, direction = rng.normal(size=32) * 7, rng.normal(size=32)
    turned = turn(embedding, direction, 0.3)
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(embedding), rel=1e-5)
    assert angle(turned, embedding) == pytest.approx(0.3 * angle(embedding, direction), abs=1e-3)
    assert np.allclose(turn(embedding, direction, 1.0), direction * np.linalg.norm(turned) / np.linalg.norm(direction))


def test_opposite_directions_have_no_way_between_them():
    x = np.eye(4)[0]
    with pytest.raises(BadQuery, match="opposite"):
        slerp(x, -x, 0.5)
    with pytest.raises(BadQuery, match="cancel"):
        interpolate(np.stack([x, np.eye(4)[1], -x, -np.eye(4)[1]]), [0.25] * 4)


@given(st.integers(2, 6), st.integers(2, 100))
def test_a_way_leads_from_the_first_over_all_to_the_last(items: int, steps: int):
    points = np.array(way(items, steps))
    assert points.shape == (steps, items)
    assert np.allclose(points.sum(1), 1) and (points >= 0).all()
    assert points[0, 0] == points[-1, -1] == 1
    assert np.allclose(np.diff(points @ np.arange(items)), (items - 1) / (steps - 1))


@pytest.mark.parametrize("steps", [0, 1, 101])
def test_a_way_has_two_to_a_hundred_steps(steps: int):
    with pytest.raises(BadQuery, match="from 2 to 100"):
        way(2, steps)
