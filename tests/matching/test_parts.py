"""Queries split into the parts that a picture must all show."""

from __future__ import annotations

import pytest

from clipkit.matching.parts import lacking, parts_of, standalone


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a dog", ("a dog",)),
        ("A Dog  on the beach", ("a dog", "on the beach")),
        ("a dog and a cat in the snow", ("a dog", "a cat", "in the snow")),
        ("a person with an umbrella", ("a person", "an umbrella")),
        ("a photo of a robot in the desert", ("a robot", "in the desert")),
        ("in the mountains, a scene with the train", ("in the mountains", "the train")),
        ("there is a car to the left of a bus", ("a car", "a bus")),
        ("a horse on the right", ("a horse",)),
        ("in the snow", ("in the snow",)),
        ("a handbag", ("a handbag",)),
        ("a band at night", ("a band", "at night")),
        ("a cup of coffee", ("a cup of coffee",)),
        ("dog, dog", ("dog",)),
        ("and", ("and",)),
        ("ein Hund", ("ein hund",)),
        ("海辺の犬", ("海辺の犬",)),
        ("🐕", ("🐕",)),
    ],
)
def test_a_query_is_split_by_plain_rules(text, parts):
    assert parts_of(text) == parts


def test_a_part_stands_alone():
    assert standalone("on the beach") == "a picture on the beach"
    assert standalone("a dog") == "a dog"


@pytest.mark.parametrize(
    "part, words",
    [
        ("on the beach", "no beach"),
        ("in a meadow", "no meadow"),
        ("a dog", "no dog"),
        ("two dogs", "no two dogs"),
        ("at night", "not at night"),
        ("in space", "not in space"),
        ("a", "no a"),
        ("on", "not on"),
    ],
)
def test_a_lacking_part_is_named(part, words):
    assert lacking(part) == words
