"""Single hits on synthetic vectors: which of them show what was asked for?"""

from __future__ import annotations

import numpy as np
import pytest
from test_matcher import DIMENSION, World, nearest, unit

from clipkit.matching import PHOTOGRAPHS, Calibration, HitCalibration, Matcher


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def shown(world):
    """What each picture of the library shows: (400, 3)."""
    return np.stack([world.rng.choice(100, 3, replace=False) for _ in range(400)])


@pytest.fixture(scope="module")
def library(world, shown):
    return np.concatenate([world.pictures(1, things) for things in shown])


@pytest.fixture(scope="module")
def matcher(world, library):
    return Matcher.fit(library, world.texts(slice(50, None)))


def test_hits_that_show_it_are_told_from_those_that_do_not(world, shown, library, matcher):
    chance, right = [], []
    for thing in range(50):
        query = world.texts()[thing]
        order = np.argsort(-(library @ query))[:20]
        chance.append(matcher.hit_probabilities(query, library[order], "text"))
        right.append((shown[order] == thing).any(axis=1))
    chance, right = np.concatenate(chance), np.concatenate(right)
    assert (chance[right][:, None] > chance[~right][None]).mean() > 0.95
    assert right[chance >= matcher.calibration.hits.threshold].mean() > 0.8


def test_hits_match_only_if_the_library_has_what_was_asked_for(world, library, matcher):
    for thing in range(100, 300, 5):
        query = world.texts()[thing]
        judged = matcher.judge(query, nearest(library, query, 20), "text")
        assert judged.shows.any() == judged.matched
        assert judged.matched == (judged.confidence >= matcher.threshold)


def test_a_given_threshold_decides_alone(world, library, matcher):
    query = world.texts()[3]
    hits = nearest(library, query, 20)
    everything = matcher.judge(query, hits, "text", least=0.0)
    nothing = matcher.judge(query, hits, "text", least=1.1)
    assert everything.matched and everything.shows.all()
    assert not nothing.matched and not nothing.shows.any()
    assert everything.confidence == nothing.confidence == matcher.judge(query, hits, "text").confidence
    some = matcher.judge(query, hits, "text", least=0.5)
    np.testing.assert_array_equal(some.shows, some.hits >= 0.5)


def test_if_the_library_lacks_it_no_hit_is_likelier_to_show_it_than_the_library_to_have_it(world, library, matcher):
    for thing in range(0, 300, 5):
        query = world.texts()[thing]
        hits = nearest(library, query, 20)
        judged, strict = matcher.judge(query, hits, "text"), matcher.judge(query, hits, "text", least=0.5)
        np.testing.assert_allclose(matcher.hit_probabilities(query, hits, "text"), judged.hits)
        assert judged.matched or (judged.hits <= judged.confidence + 1e-12).all()
        assert (strict.hits <= strict.confidence + 1e-12).all() and strict.matched == (strict.hits.max() >= 0.5)


def test_unknown_words_lower_all_probabilities(world, library, matcher):
    query = world.texts()[3]
    hits = nearest(library, query, 20)
    sure, unsure = matcher.judge(query, hits, "text"), matcher.judge(query, hits, "text", known=0.1)
    assert unsure.confidence == pytest.approx(0.1 * sure.confidence)
    np.testing.assert_allclose(unsure.hits, 0.1 * sure.hits)
    assert not unsure.matched and not unsure.shows.any()


def test_a_hit_that_lacks_a_part_is_less_likely(world, matcher):
    first, second = world.texts()[[3, 4]]
    query = unit(first + second).astype(np.float32)
    both, one = world.pictures(1, np.array([3, 4, 60]))[0], world.pictures(1, np.array([3, 61, 60]))[0]
    hits, parts = np.stack([both, one]), np.stack([first, second])
    judged = matcher.judge(query, hits, "text", parts=parts)
    alone = matcher.hit_probabilities(query, hits, "text")
    assert judged.parts.shape == (2, 2)
    assert judged.parts[1, 0] > 0.5 > judged.parts[1, 1]
    assert judged.parts[0, 1] > judged.parts[1, 1]
    assert judged.hits[1] / judged.hits[0] < alone[1] / alone[0]


def test_a_near_miss_names_the_part_that_it_lacks(world, matcher):
    first, second = world.texts()[[3, 4]]
    query = unit(first + second).astype(np.float32)
    shown = [np.array(things) for things in ([3, 4, 60], [3, 61, 62], [70, 71, 72])]
    hits = np.concatenate([world.pictures(1, things) for things in shown])
    judged = matcher.judge(query, hits, "text", parts=np.stack([first, second]))
    assert judged.shows.tolist() == [True, False, False]
    np.testing.assert_array_equal(judged.lacks, [[False, False, False], [False, True, False]])


def test_a_model_that_was_never_calibrated_needs_more(world, library):
    cautious = PHOTOGRAPHS.cautious()
    assert cautious.threshold > PHOTOGRAPHS.threshold and cautious.hits.threshold > PHOTOGRAPHS.hits.threshold
    assert cautious.hits.weights == PHOTOGRAPHS.hits.weights and cautious.pictures == PHOTOGRAPHS.pictures
    usual, wary = Matcher.fit(library, world.texts()), Matcher.fit(library, world.texts(), calibration=cautious)
    query = world.texts()[3]
    hits = nearest(library, query, 20)
    assert wary.judge(query, hits, "text").confidence == usual.judge(query, hits, "text").confidence
    assert wary.judge(query, hits, "text").shows.sum() <= usual.judge(query, hits, "text").shows.sum()


def test_one_part_is_the_query_itself(world, library, matcher):
    query = world.texts()[3]
    hits = nearest(library, query, 20)
    whole = matcher.hit_probabilities(query, hits, "text")
    np.testing.assert_array_equal(matcher.hit_probabilities(query, hits, "text", query[None]), whole)
    assert matcher.judge(query, hits, "text", parts=query[None]).parts.shape == (0, 20)


def test_without_hits_there_is_nothing_to_judge(world, matcher):
    judged = matcher.judge(world.texts()[0], np.zeros((0, DIMENSION)), "text", parts=world.texts()[:2])
    assert (judged.confidence, judged.matched) == (0.0, False)
    assert judged.hits.shape == judged.shows.shape == (0,)
    assert judged.parts.shape == (2, 0)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("kind", ["auto", "text", "image", "mixed"])
def test_small_libraries_and_banks_have_finite_probabilities(world, library, size, kind):
    for bank in (world.texts(slice(0, 1)), np.repeat(world.texts()[:1], 3, axis=0), world.texts()):
        matcher = Matcher.fit(library[:size], bank)
        for query in (world.texts()[0], library[0]):
            judged = matcher.judge(query, library[:size], kind, parts=world.texts()[:2])
            assert np.isfinite(judged.hits).all() and (judged.hits >= 0).all() and (judged.hits <= 1).all()


def test_a_calibration_survives_json():
    weights = Calibration.from_json(PHOTOGRAPHS.to_json())
    assert weights == PHOTOGRAPHS
    older = {name: value for name, value in PHOTOGRAPHS.to_json().items() if name not in ("hits", "pictures")}
    assert Calibration.from_json(older).hits == PHOTOGRAPHS.hits
    assert Calibration.from_json(older).pictures == PHOTOGRAPHS.pictures
    with pytest.raises(ValueError, match="finite"):
        HitCalibration.from_json({"weights": [1, 2, float("nan")], "offset": 0, "threshold": 0.5})
    with pytest.raises(ValueError):
        HitCalibration.from_json({"weights": [1, 2], "offset": 0, "threshold": 0.5})
    with pytest.raises(KeyError):
        HitCalibration.from_json({"weights": [1, 2, 3], "offset": 0})


def test_the_best_of_the_shown_hits_matches(world, library, matcher):
    query = world.texts()[3]
    hits = nearest(library, query, 20)[::-1]
    judged = matcher.judge(query, hits, "text", first=2)
    assert judged.matched and judged.shows[:2].any()
    assert judged.shows[judged.hits[:2].argmax()]


def test_the_search_vector_finds_what_is_asked_for(world, shown, library, matcher):
    for thing in range(50):
        vector = matcher.search_vector(world.texts()[thing], "text")
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert (shown[np.argsort(-(library @ vector))[:3]] == thing).any(axis=1).mean() > 0.6
    np.testing.assert_array_equal(matcher.search_vector(library[0], "image"), library[0])
