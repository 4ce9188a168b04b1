"""Queries of two parts, on real vectors: do hits show both, and which part does a near miss lack?

Pairs of nouns that captions name together. The data has no texts of two nouns, so the sum of the two texts' vectors
stands in for the query; single parts are the nouns themselves.
"""

from __future__ import annotations

import numpy as np
from match_data import RealClip
from match_measures import report_hits

from clipkit.matching import Matcher
from clipkit.matching.bank import Floats
from clipkit.matching.matcher import TOP
from clipkit.vectors.unit import unit


def pairs(data: RealClip, directions: Floats) -> list[tuple[int, int]]:
    """Return rows of two nouns, unlike in meaning, that two or more photos show together clearly."""
    clear, any_ = (data.mentions >= 3).sum(1), (data.mentions >= 1).sum(1)
    nouns = np.flatnonzero((clear >= 3) & (clear >= 0.3 * any_) & (any_ <= 500))
    return [
        (first, second)
        for place, first in enumerate(nouns)
        for second in nouns[place + 1 :]
        if directions[first] @ directions[second] < 0.5
        and ((data.mentions[first] >= 2) & (data.mentions[second] >= 2)).sum() >= 2
    ]


def judge_compounds(data: RealClip) -> None:
    """Print the measures of hits with and without parts, and how often the part that a near miss lacks is known."""
    matcher = Matcher.fit(data.images, data.texts)
    asked = pairs(data, unit(data.texts - matcher.text_mean))
    whole, parted, each, named = [], [], [], []
    for pair in asked:
        texts = data.texts[list(pair)]
        query = unit(texts.sum(axis=0))
        nearest = np.argsort(-(data.images @ query))[:TOP]
        whole.append(matcher.hit_probabilities(query, data.images[nearest], "text"))
        judged = matcher.judge(query, data.images[nearest], "text", parts=texts)
        parted.append(judged.hits)
        each.append(judged.parts)
        named.append(data.mentions[list(pair)][:, nearest] > 0)
    shown, by_part = np.concatenate(named, axis=1), np.concatenate(each, axis=1)
    right, bar = shown.all(axis=0), matcher.calibration.hits.threshold
    print(f"\nqueries of two parts, the first {TOP} of {len(asked)} pairs of nouns:")
    for name, chance in (("whole query", np.concatenate(whole)), ("whole query and parts", np.concatenate(parted))):
        report_hits(name, chance, right, chance >= bar)
    misses = shown.sum(axis=0) == 1
    lacking = by_part.argmin(axis=0)[misses] == shown.argmin(axis=0)[misses]
    print(f"near misses {misses.mean():.2f} of hits; the part that one lacks is named rightly {lacking.mean():.2f}")
