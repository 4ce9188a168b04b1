"""Avoided things, on real vectors: do pictures that show them leave the first ten hits?

A noun is asked for without another one that some of its hits show. Compared are subtracting the avoided text from the
query, leaving out hits that probably show it, and both, for the query itself and for its search vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from match_data import RealClip

from clipkit.matching import Matcher
from clipkit.matching.bank import Floats
from clipkit.vectors.unit import unit

FIRST, CANDIDATES = 10, 60


@dataclass(frozen=True)
class Way:
    """How a thing is avoided: subtracted with a weight, or left out from a probability on."""

    name: str
    turned: bool = False
    weight: float = 0.0
    bar: float = np.inf


WAYS = (
    Way("ignored"),
    Way("subtracted, weight 0.5", weight=0.5),
    Way("left out from 0.4", bar=0.4),
    Way("left out from 0.1", bar=0.1),
    Way("search vector, ignored", turned=True),
    Way("search vector, subtracted, weight 0.5", turned=True, weight=0.5),
    Way("search vector, left out from 0.1", turned=True, bar=0.1),
    Way("search vector, both", turned=True, weight=0.5, bar=0.1),
)


def pairs(data: RealClip, directions: Floats) -> list[tuple[int, int]]:
    """Return rows of nouns (wanted, avoided): two or more of the wanted one's first ten show both, and two only it."""
    clear = [i for i in range(len(data.names)) if (data.mentions[i] >= 3).sum() >= 5]
    found = []
    for wanted in clear:
        first = np.argsort(-(data.images @ data.texts[wanted]))[:FIRST]
        shown = data.mentions[wanted, first] > 0
        for avoided in clear:
            both = int((shown & (data.mentions[avoided, first] > 0)).sum())
            apart = directions[wanted] @ directions[avoided] < 0.5
            if avoided != wanted and apart and both >= 2 and shown.sum() - both >= 2:
                found.append((wanted, avoided))
    return found


def judge_negatives(data: RealClip) -> None:
    """Print what the first hits show, for each way to avoid a thing."""
    matcher = Matcher.fit(data.images, data.texts)
    directions = unit(data.texts - matcher.text_mean)
    asked = pairs(data, directions)
    print(f"\navoided things, {len(asked)} pairs of nouns, the share of the first {FIRST} hits that show:")
    for way in WAYS:
        rows = [_first(data, matcher, directions, pair, way) for pair in asked]
        avoided, wanted, right = np.mean(rows, axis=0)
        print(f"{way.name:40s} the avoided {avoided:.2f}  the wanted {wanted:.2f}  the wanted alone {right:.2f}")


def _first(data: RealClip, matcher: Matcher, directions: Floats, pair: tuple[int, int], way: Way) -> list[float]:
    vectors = [matcher.search_vector(data.texts[row], "text") if way.turned else directions[row] for row in pair]
    query = unit(vectors[0] - way.weight * vectors[1])
    if not way.turned:
        query = unit(matcher.text_mean + np.linalg.norm(data.texts[pair[0]] - matcher.text_mean) * query)
    order = np.argsort(-(data.images @ query))[:CANDIDATES]
    shows = matcher.hit_probabilities(data.texts[pair[1]], data.images[order], "text")
    first = order[shows < way.bar][:FIRST]
    wanted, avoided = (data.mentions[row, first] > 0 for row in pair)
    return [avoided.mean(), wanted.mean(), (wanted & ~avoided).mean()]
