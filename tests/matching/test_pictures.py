"""Queries by picture on synthetic vectors: copies, and pictures of the same kind of thing."""

from __future__ import annotations

import numpy as np
import pytest
from test_matcher import DIMENSION, World, unit

from clipkit.matching import Matcher
from clipkit.matching.bank import ConceptBank
from clipkit.matching.evidence import Reference
from clipkit.matching.pictures import concept_overlap, copy_distance
from clipkit.matching.statistics import LibraryStatistics


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def library(world):
    return np.concatenate([world.pictures(1, world.rng.choice(100, 3, replace=False)) for _ in range(300)])


@pytest.fixture(scope="module")
def reference(world, library):
    bank = ConceptBank.of(world.texts())
    statistics = LibraryStatistics.empty(bank.dimension, len(bank.directions))
    statistics.add(library, bank)
    return Reference.of(statistics, bank)


def edited(world, picture, much):
    """Return a vector that differs from a picture's by noise of so much of its length."""
    return unit(picture + much * unit(world.rng.standard_normal(DIMENSION))).astype(np.float32)


def test_a_copy_is_told_from_other_pictures(world, library):
    matcher = Matcher.fit(library, world.texts())
    for row in range(0, 300, 10):
        judged = matcher.judge(edited(world, library[row], 0.1), library[row : row + 20], "image")
        assert judged.matched and judged.copies[0] > 0.9 and judged.shows[0]
        assert (judged.copies[1:] < 0.5).all()


def test_a_text_query_has_no_copies(world, library):
    matcher = Matcher.fit(library, world.texts())
    assert matcher.judge(world.texts()[0], library[:20], "text").copies is None


def test_pictures_of_the_same_things_overlap_more(world, library, reference):
    same, other = [], []
    for thing in range(0, 60, 3):
        query, alike = world.pictures(2, np.array([thing, thing + 1, thing + 2]))
        same.append(concept_overlap(reference, query, alike[None])[0])
        other.append(concept_overlap(reference, query, library[thing : thing + 20]).mean())
    assert np.mean(np.array(same) > np.array(other)) > 0.9


def test_overlap_and_distance_have_fixed_ends(library, reference):
    np.testing.assert_allclose(concept_overlap(reference, library[0], library[:1]), 1.0, atol=1e-6)
    assert copy_distance(reference, library[0], library[:1])[0] == pytest.approx(-4, abs=0.3)
    unrelated = copy_distance(reference, library[0], library[1:])
    assert np.median(unrelated) == pytest.approx(0, abs=0.15)
