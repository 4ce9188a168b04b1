"""The cost of a decision in time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from match_baselines import unit

from clipkit.matching import Matcher
from clipkit.matching.matcher import TOP


def milliseconds_at(size: int, dimension: int = 512, concepts: int = 2400, queries: int = 50) -> tuple[float, float]:
    """Return the milliseconds of one judgement of a search's hits, and of loading, with `size` random vectors."""
    rng = np.random.default_rng(0)
    bank = unit(rng.normal(size=(concepts, dimension)).astype("f4") + 1)
    matcher = Matcher.fit(np.zeros((0, dimension), "f4"), bank)
    hits = np.zeros((0, dimension), "f4")
    for _ in range(max(1, size // 10000)):
        batch = unit(rng.normal(size=(min(size, 10000), dimension)).astype("f4") - 1)
        matcher.update(batch)
        hits = batch[:TOP]
    with tempfile.TemporaryDirectory() as folder:
        matcher.save(Path(folder) / "m.npz")
        start = time.perf_counter()
        matcher = Matcher.load(Path(folder) / "m.npz")
        loading = time.perf_counter() - start
    asked = unit(rng.normal(size=(queries, dimension)).astype("f4") + 1)
    matcher.judge(asked[0], hits, "text")
    start = time.perf_counter()
    for query in asked:
        matcher.judge(query, hits, "text")
    return (time.perf_counter() - start) / queries * 1e3, loading * 1e3
