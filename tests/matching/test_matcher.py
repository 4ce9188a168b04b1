"""The match decision on synthetic vectors: texts and pictures in two narrow cones, as in CLIP."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.matching import Matcher, concepts

DIMENSION, CONCEPTS = 64, 300


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class World:
    """Synthetic vectors: concepts are directions, and a picture shows two or three of them."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.things = unit(rng.normal(size=(CONCEPTS, DIMENSION)))
        self.all_texts, self.all_pictures = unit(rng.normal(size=(2, DIMENSION)))
        self.rng = rng

    def texts(self, rows=slice(None)):
        return unit(1.5 * self.all_texts + self.things[rows]).astype(np.float32)

    def pictures(self, number, among):
        shown = np.stack([self.rng.choice(among, 3, replace=False) for _ in range(number)]) if number else []
        things = self.things[shown].sum(axis=1) if number else np.zeros((0, DIMENSION))
        noise = self.rng.normal(size=(number, DIMENSION)) * 0.05
        return unit(1.5 * self.all_pictures + things + noise).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def library(world):
    return world.pictures(400, np.arange(100))


@pytest.fixture(scope="module")
def matcher(world, library):
    return Matcher.fit(library, world.texts(slice(50, None)))


def nearest(library, query, k=10):
    return library[np.argsort(-(library @ query))[:k]]


def test_present_and_absent_queries_are_told_apart(world, matcher):
    present, absent = matcher.confidence(world.texts(slice(0, 50))), matcher.confidence(world.texts(slice(100, 300)))
    assert (present[:, None] > absent[None]).mean() > 0.95
    assert (present >= matcher.threshold).mean() > 0.9


def test_confidences_are_probabilities(world, matcher, library):
    queries = np.concatenate([world.texts(), library[:50], -library[:5]])
    answers = matcher.confidence(queries)
    assert answers.shape == (len(queries),)
    assert np.isfinite(answers).all() and (answers >= 0).all() and (answers <= 1).all()


def test_an_empty_library_has_nothing(world):
    matcher = Matcher.fit(np.zeros((0, DIMENSION), np.float32), world.texts())
    assert matcher.count == 0
    for kind in ("auto", "text", "image", "mixed"):
        assert (matcher.confidence(world.texts(slice(0, 5)), kind) == 0).all()
    assert matcher.confidence_from_hits(world.texts()[0], np.zeros((0, DIMENSION))) == 0
    assert matcher.hit_probabilities(world.texts()[0], np.zeros((0, DIMENSION))).shape == (0,)
    assert matcher.rivals(world.texts()[0], world.texts()[1]) == []


def test_a_library_of_one_picture():
    world = World(3)
    for _ in range(5):
        shown = world.rng.choice(CONCEPTS, 3, replace=False)
        picture = world.pictures(1, shown)
        answers = Matcher.fit(picture, world.texts()).confidence(world.texts())
        others = np.delete(answers, shown)
        assert np.isfinite(answers).all()
        assert answers[shown].mean() > np.quantile(others, 0.95)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_small_libraries_have_finite_answers(world, library, size):
    matcher = Matcher.fit(library[:size], world.texts())
    queries = np.concatenate([world.texts(slice(0, 20)), library[:20]])
    for kind in ("auto", "text", "image", "mixed"):
        assert np.isfinite(matcher.confidence(queries, kind)).all()


def test_identical_pictures_and_concepts(world, library):
    matcher = Matcher.fit(np.repeat(library[:1], 30, axis=0), np.repeat(world.texts()[:1], 30, axis=0))
    assert np.isfinite(matcher.confidence(world.texts(slice(0, 10)))).all()


def test_a_small_bank_suffices(world, library):
    for size in (1, 2, 10):
        assert np.isfinite(Matcher.fit(library, world.texts(slice(0, size))).confidence(world.texts())).all()


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=5))
def test_batches_equal_one_fit(cuts):
    world = World(1)
    library, bank = world.pictures(400, np.arange(100)), world.texts(slice(50, None))
    whole, parts = Matcher.fit(library, bank), Matcher.fit(library[:0], bank)
    for batch in np.split(library, sorted(cuts)):
        parts.update(batch)
    assert parts.count == whole.count == 400
    queries = np.concatenate([world.texts(slice(0, 20)), library[:5]])
    np.testing.assert_allclose(parts.confidence(queries), whole.confidence(queries), atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_does_not_matter(seed):
    world, rng = World(2), np.random.default_rng(seed)
    library, bank, queries = world.pictures(200, np.arange(100)), world.texts(), world.texts(slice(0, 20))
    shuffled = Matcher.fit(rng.permutation(library), rng.permutation(bank))
    np.testing.assert_allclose(shuffled.confidence(queries), Matcher.fit(library, bank).confidence(queries), atol=2e-2)


def test_it_is_deterministic_and_leaves_its_input_alone(world, library):
    images, bank, queries = library.copy(), world.texts(), world.texts(slice(0, 20))
    first, second = Matcher.fit(images, bank), Matcher.fit(images, bank)
    np.testing.assert_array_equal(first.confidence(queries), second.confidence(queries))
    np.testing.assert_array_equal(images, library)


def test_a_saved_matcher_decides_the_same(tmp_path, world, library, matcher):
    matcher.save(tmp_path / "match.npz")
    loaded = Matcher.load(tmp_path / "match.npz")
    assert (loaded.count, loaded.threshold) == (matcher.count, matcher.threshold)
    for query in (*world.texts(slice(95, 105)), library[0]):
        hits = nearest(library, query)
        assert loaded.confidence_from_hits(query, hits) == matcher.confidence_from_hits(query, hits)
        np.testing.assert_array_equal(loaded.hit_probabilities(query, hits), matcher.hit_probabilities(query, hits))
    with pytest.raises(RuntimeError, match="confidence_from_hits"):
        loaded.confidence(world.texts())
    assert [path.name for path in tmp_path.iterdir()] == ["match.npz"]


def test_a_loaded_matcher_can_be_updated(tmp_path, world, library):
    bank = world.texts()
    Matcher.fit(library[:150], bank).save(tmp_path / "match.npz")
    resumed, whole = Matcher.load(tmp_path / "match.npz").update(library[150:]), Matcher.fit(library, bank)
    for query in world.texts(slice(95, 105)):
        hits = nearest(library, query)
        assert resumed.confidence_from_hits(query, hits) == pytest.approx(
            whole.confidence_from_hits(query, hits), abs=1e-4
        )


def test_the_file_does_not_grow_with_the_library(tmp_path, world, library):
    Matcher.fit(library, world.texts()).save(tmp_path / "large.npz")
    Matcher.fit(library[:10], world.texts()).save(tmp_path / "small.npz")
    assert (tmp_path / "large.npz").stat().st_size == (tmp_path / "small.npz").stat().st_size


def test_an_empty_matcher_can_be_saved_and_updated(tmp_path, world, library):
    Matcher.fit(library[:0], world.texts()).save(tmp_path / "empty.npz")
    loaded = Matcher.load(tmp_path / "empty.npz")
    query = world.texts()[0]
    hits = nearest(library, query)
    assert loaded.confidence_from_hits(query, hits) == 0
    assert loaded.update(library).confidence_from_hits(query, hits) == pytest.approx(
        Matcher.fit(library, world.texts()).confidence_from_hits(query, hits), abs=1e-4
    )


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, matcher):
    matcher.save(tmp_path / "match.npz")
    before = (tmp_path / "match.npz").read_bytes()

    def full_disk(*_args, **_kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space"):
        matcher.save(tmp_path / "match.npz")
    assert (tmp_path / "match.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_corrupt_file_is_rejected(tmp_path, matcher):
    matcher.save(tmp_path / "match.npz")
    whole = (tmp_path / "match.npz").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 100):
        (tmp_path / "torn.npz").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"torn\.npz"):
            Matcher.load(tmp_path / "torn.npz")
    with pytest.raises(FileNotFoundError):
        Matcher.load(tmp_path / "missing.npz")


@pytest.mark.parametrize("kind", ["auto", "image"])
def test_a_picture_of_the_library_matches(matcher, library, kind):
    assert matcher.confidence(library[:50], kind).min() > 0.98


def test_an_unrelated_picture_is_less_likely_than_a_related_one(world, matcher, library):
    relatives = matcher.confidence(world.pictures(60, np.arange(100)))
    strangers = matcher.confidence(world.pictures(60, np.arange(200, 300)))
    assert np.median(relatives) > np.median(strangers)
    assert strangers.max() < 0.98


def test_kinds_are_recognised(world, matcher, library):
    texts, pictures = world.texts(slice(0, 20)), world.pictures(20, np.arange(100))
    np.testing.assert_allclose(matcher.confidence(texts), matcher.confidence(texts, "text"))
    np.testing.assert_allclose(matcher.confidence(pictures), matcher.confidence(pictures, "image"))
    both = np.concatenate([texts, pictures])
    np.testing.assert_allclose(
        matcher.confidence(both, ["text"] * 20 + ["image"] * 20), matcher.confidence(both), atol=1e-12
    )


def test_a_mixed_query_of_two_present_things_matches(world, matcher, library):
    for text, picture in zip(world.texts(slice(0, 10)), library[:10], strict=True):
        answer = matcher.confidence(unit(text + picture)[None], "mixed")[0]
        assert 0 <= answer <= 1
        assert answer > 0.3


def test_the_best_hit_matches_if_the_library_has_what_was_asked_for(world, matcher, library):
    for query in world.texts(slice(90, 110)):
        hits = nearest(library, query, 20)
        judged = matcher.judge(query, hits, "text")
        assert judged.confidence == pytest.approx(matcher.confidence_from_hits(query, hits, "text"))
        assert judged.confidence == pytest.approx(matcher.confidence(query[None], "text")[0], abs=1e-6)
        assert judged.matched == judged.shows.any() == (matcher.confidence(query[None])[0] >= matcher.threshold)
        assert judged.shows[judged.hits.argmax()] == judged.matched
        np.testing.assert_array_equal(judged.hits, matcher.hit_probabilities(query, hits, "text"))


def test_confidence_falls_with_the_similarity_to_a_picture(matcher, library):
    picture = library[0]
    other = library[np.argsort(library @ picture)[0]]
    blends = unit(np.stack([(1 - t) * picture + t * other for t in np.linspace(0, 1, 9)])).astype(np.float32)
    confidences = matcher.hit_probabilities(picture, blends, "image")
    assert (np.diff(confidences) <= 1e-9).all()


def test_confidence_falls_as_what_is_asked_fades(world, matcher, library):
    text, direction = world.texts()[3], world.things[3]
    picture = world.pictures(1, np.arange(100, 103))[0]
    faded = unit(np.stack([picture + t * direction for t in np.linspace(1, 0, 9)])).astype(np.float32)
    confidences = matcher.hit_probabilities(text, faded, "text")
    assert (np.diff(confidences) <= 1e-9).all() and confidences[0] > confidences[-1]


def test_the_order_of_hits_does_not_matter(world, matcher, library):
    query = world.texts()[0]
    hits = nearest(library, query, 20)
    np.testing.assert_allclose(
        matcher.hit_probabilities(query, hits[::-1])[::-1], matcher.hit_probabilities(query, hits), atol=1e-6
    )


def test_a_filter_limits_the_decision_to_what_passes(world, matcher, library):
    query = world.texts()[5]
    direction = unit(world.things[5])
    without = library @ direction < np.quantile(library @ direction, 0.8)
    everything = matcher.confidence(query[None])[0]
    filtered = matcher.confidence(query[None], allowed=without)[0]
    assert filtered < everything
    assert filtered == pytest.approx(
        matcher.confidence_from_hits(query, nearest(library[without], query, 20)), abs=1e-6
    )
    assert matcher.confidence(query[None], allowed=np.zeros(len(library), bool))[0] == 0
    assert matcher.confidence(query[None], allowed=np.ones(len(library), bool))[0] == everything


def test_rivals_are_what_the_picture_shows(world, library):
    matcher = Matcher.fit(library, world.texts())
    picture = world.pictures(1, np.array([7, 8, 9]))[0]
    rivals = matcher.rivals(world.texts()[250], picture)
    assert len({row for row, _ in rivals} & {7, 8, 9}) >= 2
    assert [lead for _, lead in rivals] == sorted((lead for _, lead in rivals), reverse=True)


def test_invalid_input_is_rejected(world, matcher, library):
    query = world.texts()[0]
    with pytest.raises(ValueError, match="shape"):
        Matcher.fit(library[0], world.texts())
    with pytest.raises(ValueError, match="shape"):
        matcher.update(np.zeros((2, DIMENSION + 1)))
    with pytest.raises(ValueError, match="shape"):
        matcher.confidence(query)
    with pytest.raises(ValueError, match="finite"):
        matcher.confidence(np.full((1, DIMENSION), np.nan))
    with pytest.raises(ValueError, match="empty"):
        Matcher.fit(library, world.texts()[:0])
    with pytest.raises(ValueError, match="kind"):
        matcher.confidence(query[None], "picture")
    with pytest.raises(ValueError, match="kinds"):
        matcher.confidence(query[None], ["text", "text"])
    with pytest.raises(ValueError, match="allowed"):
        matcher.confidence(query[None], allowed=np.ones(3, bool))


def test_the_shipped_concepts_are_many_and_distinct():
    words = concepts()
    assert len(words) >= 2000
    assert len({word.casefold() for word in words}) == len(words)
    assert all(word == word.strip() and word and not word.startswith("#") for word in words)
    assert {"dog", "bicycle", "a person riding a bicycle"} <= set(words)
