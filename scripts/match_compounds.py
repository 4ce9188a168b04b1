"""Queries of two parts, on real vectors: do hits show both, and which part does a near miss lack?

Pairs of nouns that captions name together. The data has no texts of two nouns, so the sum of the two texts' vectors
stands in for the query; single parts are the nouns themselves.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from match_data import RealClip
from match_measures import report_hits

from clipkit.matching import PHOTOGRAPHS, Matcher
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
    """Print the measures of hits by the weight of their weakest part, and those of near misses."""
    matcher = Matcher.fit(data.images, data.texts)
    asked = pairs(data, unit(data.texts - matcher.text_mean))
    print(f"\nqueries of two parts, the first {TOP} of {len(asked)} pairs of nouns:")
    for weight in (0.0, 0.1, 0.25, 0.5):
        matcher.calibration = replace(PHOTOGRAPHS, hits=replace(PHOTOGRAPHS.hits, parts=weight))
        judged, named = [], []
        for pair in asked:
            texts = data.texts[list(pair)]
            query = unit(texts.sum(axis=0))
            nearest = np.argsort(-(data.images @ query))[:TOP]
            judged.append(matcher.judge(query, data.images[nearest], "text", parts=texts))
            named.append(data.mentions[list(pair)][:, nearest] > 0)
        shown = np.concatenate(named, axis=1)
        chance = np.concatenate([judgement.hits for judgement in judged])
        matches = np.concatenate([judgement.shows for judgement in judged])
        report_hits(f"weight of the weakest part {weight}", chance, shown.all(axis=0), matches)
        lacks = np.concatenate([judgement.lacks for judgement in judged], axis=1)
        missed = lacks.any(axis=0)
        right = (lacks == ~shown).all(axis=0)[missed]
        print(
            f"{'':44s} near misses {missed.mean():.2f} of hits: named rightly {right.mean():.2f}, "
            f"the part is lacking {(~shown[:, missed] & lacks[:, missed]).any(axis=0).mean():.2f}, "
            f"by chance {(~shown).mean():.2f}"
        )
