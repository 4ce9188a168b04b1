"""The query algebra: terms, weights, and how they are combined."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipkit import BadQuery, Query
from clipkit.images.preprocessing import Preprocessing
from clipkit.searching.query import AVOID_WEIGHT, ModalityMeans, embed
from clipkit.searching.unknown_words import known_share
from clipkit.vectors.unit import unit


class Arithmetic:
    """An encoder with predictable vectors: letter counts for texts, the mean colour for pictures."""

    space, dimension, concepts = "arithmetic", 4, ()
    preprocessing = Preprocessing(size=8, mean=(0, 0, 0), std=(1, 1, 1))

    def encode_texts(self, texts):
        return np.array([[text.count(letter) + 0.1 for letter in "abcd"] for text in texts], np.float32)

    def encode_images(self, pixels):
        return np.concatenate([pixels.mean((1, 2)) + 1, np.ones((len(pixels), 1))], 1).astype(np.float32)

    def unknown_words(self, text):
        return [word for word in text.split() if word == "blorp"]


MEANS = ModalityMeans(np.full(4, 0.1, np.float32), np.full(4, 0.2, np.float32))
ZERO = ModalityMeans(np.zeros(4, np.float32), np.zeros(4, np.float32))


def vector(query: Query, means: ModalityMeans = MEANS) -> np.ndarray:
    return embed(query, Arithmetic(), means).vector


def test_one_text_is_its_own_unit_vector():
    embedded = embed(Query("aab"), Arithmetic(), MEANS)
    assert embedded.kind == "text" and np.allclose(embedded.vector, unit(Arithmetic().encode_texts(["aab"]))[0])


def test_kinds_and_unknown_words():
    red = Image.new("RGB", (9, 5), "red")
    assert embed(Query(like=(red,)), Arithmetic(), MEANS).kind == "image"
    mixed = embed(Query("blorp a", like=(red,)), Arithmetic(), MEANS)
    assert mixed.kind == "mixed" and mixed.unknown_words == ("blorp",)


def test_pictures_may_be_paths_bytes_or_images(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (20, 10), "red").save(path)
    vectors = [vector(Query(like=(source,))) for source in (path, str(path), path.read_bytes(), Image.open(path))]
    assert all(np.allclose(v, vectors[0]) for v in vectors)
    assert np.allclose(vector(Query("a", not_=(str(path),))), vector(Query("a", not_=(path,))))
    assert not np.allclose(vector(Query("a", not_=(str(path),))), vector(Query("a", not_=("no file",))))


def test_a_picture_may_be_its_embedding():
    red = Image.new("RGB", (9, 5), "red")
    embedding = 7 * Arithmetic().encode_images(Preprocessing(8, (0, 0, 0), (1, 1, 1)).pixels(red)[None])[0]
    blue = Image.new("RGB", (9, 5), "blue")
    for query, other in (
        (Query(like=(embedding,)), Query(like=(red,))),
        (Query("ab", like=(blue, embedding), not_=(embedding,)), Query("ab", like=(blue, red), not_=(red,))),
    ):
        assert np.allclose(vector(query), vector(other), atol=1e-6)
        assert json.dumps(query.to_json()) == json.dumps(other.to_json())
    for wrong in (embedding[:3], np.zeros(4, np.float32), np.full(4, np.nan, np.float32)):
        with pytest.raises(BadQuery, match="4 numbers"):
            vector(Query(like=(wrong,)))


@given(st.lists(st.sampled_from(["a", "ab", "bcd", "dda", "cab"]), min_size=1, max_size=4), st.floats(0.1, 10))
def test_scaling_all_weights_changes_nothing(avoid, factor):
    terms = 1 + len(avoid)
    weights = [1.0, *[0.3] * len(avoid)]
    query = Query("aaab", not_=tuple(avoid), weights=tuple(weights))
    scaled = Query("aaab", not_=tuple(avoid), weights=tuple(w * factor for w in weights))
    assert len(query.terms()) == terms
    assert np.allclose(vector(query), vector(scaled), atol=1e-4)


def test_more_weight_on_not_steers_further_away():
    b = unit(Arithmetic().encode_texts(["b"]))[0] - MEANS.text
    angles = [float(vector(Query("ab", not_=("b",), weights=(1, w))) @ b) for w in (0.1, 0.5, 1.0)]
    assert angles[0] > angles[1] > angles[2]
    assert np.allclose(vector(Query("ab", not_=("b",))), vector(Query("ab", not_=("b",), weights=(1, AVOID_WEIGHT))))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"text": "  "},
        {"not_": ("a",)},
        {"text": "a", "weights": (1, 1)},
        {"text": "a", "weights": (0,)},
        {"text": "a", "weights": (-1,)},
        {"text": "a", "weights": (math.nan,)},
        {"text": "a", "weights": (math.inf,)},
        {"text": "a", "weights": (1e300,)},
        {"text": "a", "weights": (1e-300,)},
        {"text": "?!..."},
        {"text": "\u2026\u3002\u00bf"},
        {"text": "\u200d\ufe0f"},
        {"text": "a", "not_": ("--",)},
        {"text": "a", "not_": ("",)},
    ],
)
def test_bad_queries(arguments):
    with pytest.raises(BadQuery) as error:
        Query(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a", "\u72ac", "\u0643\u0644\u0628", "7", "\N{CAT}", "\u2665", "r.e.m."])
def test_letters_of_any_script_and_symbols_count_as_words(text):
    assert Query(text).terms()[0].value == text


def test_only_the_ratio_of_weights_matters_even_at_the_limits():
    vectors = [vector(Query("aab", not_=("b",), weights=(w, w / 2))) for w in (2e-6, 1.0, 1e6)]
    assert np.allclose(vectors[0], vectors[1], atol=1e-4) and np.allclose(vectors[2], vectors[1], atol=1e-4)


def test_terms_that_cancel_out_are_rejected():
    with pytest.raises(BadQuery):
        vector(Query("a", not_=("a",), weights=(1, 1)), ZERO)


def test_to_json_returns_plain_data():
    query = Query("a", like=[Path("x.jpg"), b"..."], not_="b")
    assert query.to_json() == {
        "text": "a",
        "like": ["x.jpg", "(image)"],
        "not": ["b"],
        "weights": [1.0, 1.0, 1.0, AVOID_WEIGHT],
    }


def test_unknown_words_lower_the_known_share():
    assert known_share(Query("a dog"), ()) == 1
    assert known_share(Query("a purple dog"), ("purple",)) == 0.5
    assert known_share(Query("blorp"), ("blorp",)) == 0
    assert known_share(Query("a dog on the beach in the blorp"), ("blorp",)) == pytest.approx(2 / 3)
