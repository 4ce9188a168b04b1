"""Which vector finds more? The first hits of nouns by the query itself, centred, and by its search vector."""

from __future__ import annotations

import numpy as np
from match_data import RealClip

from clipkit.matching import Matcher
from clipkit.vectors.unit import unit


def judge_ranking(data: RealClip) -> None:
    """Print precision and mean average precision; a photo is right if any caption names the noun."""
    matcher = Matcher.fit(data.images, data.texts)
    ways = {
        "the query": lambda query: query,
        "the query, centred": lambda query: unit(query - matcher.text_mean),
        "the search vector": lambda query: matcher.search_vector(query, "text"),
    }
    print("\nranking, precision of the first 1/5/10/20 hits and mean average precision:")
    for name, part in (("salient", data), ("any", data.some("any", strong=1, share=0.2))):
        for way, turned in ways.items():
            rows = [_measures(data, noun, turned(data.texts[noun])) for noun in part.nouns()]
            *precision, average = np.mean(rows, axis=0)
            print(f"{name + ', by ' + way:34s} {'/'.join(f'{p:.2f}' for p in precision)}  {average:.3f}")


def _measures(data: RealClip, noun: int, vector: np.ndarray) -> list[float]:
    right = data.mentions[noun, np.argsort(-(data.images @ vector), kind="stable")] > 0
    found = np.cumsum(right) / np.arange(1, len(right) + 1)
    return [*(found[k - 1] for k in (1, 5, 10, 20)), found[right].mean()]
