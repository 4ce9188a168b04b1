"""The match decision on real CLIP vectors of photos and nouns, if they are present."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from clipkit.matching import Matcher

FOLDER = Path(__file__).parents[3] / "shared" / "real_clip"
pytestmark = pytest.mark.skipif(
    not (FOLDER / "development.npz").exists() or not (FOLDER / "evaluate.py").exists(),
    reason="needs the vectors of ../shared/real_clip",
)


@pytest.fixture(scope="module")
def protocol():
    spec = importlib.util.spec_from_file_location("evaluate_real_clip", FOLDER / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def answers(protocol):
    """Return the confidences of salient nouns, present and absent."""
    images, texts, names, mentions = protocol.load(FOLDER / "development.npz")
    pairs = []
    for row in protocol.salient_queries(names, mentions):
        bank, query = np.delete(texts, row, axis=0), texts[row][None]
        libraries = images, images[mentions[row] == 0]
        pairs.append([Matcher.fit(library, bank).confidence(query)[0] for library in libraries])
    return np.array(pairs).T


def test_present_and_absent_nouns_are_told_apart(protocol, answers):
    assert protocol.auroc(*answers) >= 0.82


def test_few_present_nouns_are_rejected(answers):
    matcher = Matcher.fit(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32))
    present, absent = answers >= matcher.threshold
    assert present.mean() >= 0.9
    assert absent.mean() < 0.65


def test_the_bank_can_contain_the_query_and_can_be_smaller(protocol):
    images, texts, names, mentions = protocol.load(FOLDER / "development.npz")
    rows = protocol.salient_queries(names, mentions)[::2]
    some = np.union1d(rows, np.arange(0, len(texts), 3))
    present = Matcher.fit(images, texts[some]).confidence(texts[rows])
    absent = [Matcher.fit(images[mentions[row] == 0], texts[some]).confidence(texts[row][None])[0] for row in rows]
    assert protocol.auroc(present, absent) >= 0.78


def test_photos_are_recognised_as_pictures_of_the_library(protocol):
    images, texts, _, _ = protocol.load(FOLDER / "development.npz")
    matcher = Matcher.fit(images, texts)
    assert matcher.confidence(images[:20]).min() > 0.98
    np.testing.assert_allclose(matcher.confidence(texts[:20]), matcher.confidence(texts[:20], "text"))


def test_most_matched_hits_show_the_noun(protocol):
    images, texts, names, mentions = protocol.load(FOLDER / "development.npz")
    matcher = Matcher.fit(images, texts)
    chance, right, shows = [], [], []
    for row in protocol.salient_queries(names, mentions):
        nearest = np.argsort(-(images @ texts[row]))[:20]
        judged = matcher.judge(texts[row], images[nearest], "text")
        chance.append(judged.hits)
        shows.append(judged.shows)
        right.append(mentions[row, nearest] > 0)
    chance, right, shows = map(np.concatenate, (chance, right, shows))
    assert protocol.auroc(chance[right], chance[~right]) >= 0.87
    assert right[shows].mean() >= 0.65
    assert shows[right].mean() >= 0.55
    assert abs(chance.mean() - right.mean()) < 0.05
