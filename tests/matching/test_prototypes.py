"""Whether texts ask for a concept and pictures show it: on synthetic vectors, and on real ones if they are present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_matcher import CONCEPTS, World, unit

from clipkit.matching.prototypes import PICTURE_THRESHOLD, TEXT_THRESHOLD, Prototypes

REAL = Path(__file__).parents[3] / "shared" / "real_clip" / "development.npz"


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def prototypes(world):
    """Prototypes of the first five concepts, of which the bank has all."""
    texts = world.texts()
    return Prototypes.fit([texts[[row]] for row in range(5)], texts)


def test_texts_of_a_concept_are_told_from_all_others(world, prototypes):
    same = np.diag(prototypes.in_texts(unit(world.texts(slice(5)) + 0.1 * world.rng.normal(size=(5, 64)) / 8)))
    others = prototypes.in_texts(world.texts(slice(5, None)))
    assert same.min() > TEXT_THRESHOLD > np.quantile(others, 0.999)


def test_pictures_of_a_concept_are_told_from_others(world, prototypes):
    others = prototypes.in_pictures(world.pictures(300, np.arange(5, CONCEPTS)))
    showing = [
        prototypes.in_pictures(world.pictures(50, np.array([row, 20 + row, 40 + row])))[:, row] for row in range(5)
    ]
    assert np.median(showing) > PICTURE_THRESHOLD > np.quantile(others, 0.99)


def test_only_the_direction_of_a_picture_counts(world, prototypes):
    pictures = world.pictures(20, np.arange(10))
    assert np.allclose(prototypes.in_pictures(pictures), prototypes.in_pictures(pictures * 17.5), atol=1e-3)


def test_a_bank_without_rivals_decides_nothing(world):
    texts = world.texts(slice(1))
    lonely = Prototypes.fit([texts], texts)
    assert np.isneginf(lonely.in_texts(texts)).all() and np.isneginf(lonely.in_pictures(texts)).all()


@pytest.mark.skipif(not REAL.exists(), reason="needs the vectors of ../shared/real_clip")
def test_real_nouns_and_photos_are_refused_as_often_as_documented():
    with np.load(REAL, allow_pickle=False) as file:
        images, texts = (unit(file[key].astype("f4")) for key in ("image_vectors", "text_vectors"))
        names, mentions = [str(name) for name in file["names"]], file["mentions"]
    concepts = {"alcohol": ["alcohol", "beer", "wine"], "gun": ["gun", "handgun"], "motorcycle": ["motorcycle"]}
    rows = [[names.index(word) for word in words] for words in concepts.values()]
    prototypes = Prototypes.fit([texts[own] for own in rows], np.delete(texts, sum(rows, []), axis=0))
    asked = prototypes.in_texts(texts) >= TEXT_THRESHOLD
    assert asked[[names.index(word) for word in ("vodka", "liquor", "tequila")], 0].all()
    assert asked[[names.index(word) for word in ("rifle", "pistol", "shotgun")], 1].all()
    assert asked.sum(axis=0).max() < 0.02 * len(names)
    shown = prototypes.in_pictures(images)[:, 2] >= PICTURE_THRESHOLD
    said = mentions[names.index("motorcycle")]
    assert shown[said >= 3].mean() > 0.8 and shown[said == 0].mean() < 0.005
