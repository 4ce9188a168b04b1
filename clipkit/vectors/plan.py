"""Which index suits how many vectors."""

from __future__ import annotations

import sys
from dataclasses import dataclass

IVF_FROM = 300_000
"""Vectors from which inverted lists are faster than reading all vectors: a cold disk reads fewer than this in time."""
LARGE_FROM = 5_000_000
"""Vectors from which more lists, and one byte a component, keep the probed part of the file small."""


@dataclass(frozen=True)
class IndexPlan:
    """How a set of vectors is stored.

    lists: inverted lists, clustered by k-means; 0 to compare a query with all vectors.
    bits: per component. 16 are what the catalog stores; with 8, results are scored again with the catalog's vectors.
    points_per_list: vectors per list that k-means is trained on.
    recall: share of the ten nearest pictures of a text query that searches shall find, when the number of probes is
        chosen. Texts that took no part in the choice find about a hundredth less, and shall find 0.99.
    """

    lists: int = 0
    bits: int = 16
    points_per_list: int = 64
    recall: float = 0.995

    @property
    def factory(self) -> str:
        """The name of this index in FAISS's notation, such as `IVF4096,SQfp16`."""
        quantizer = "SQfp16" if self.bits == 16 else f"SQ{self.bits}"
        return f"IVF{self.lists},{quantizer}" if self.lists else quantizer


EXACT = IndexPlan()


def plan_for(count: int) -> IndexPlan:
    """Return the plan for a library of `count` vectors."""
    if count < IVF_FROM or sys.platform == "win32":  # FAISS cannot map inverted lists on Windows
        return EXACT
    if count < LARGE_FROM:
        return IndexPlan(lists=4096)
    return IndexPlan(lists=16384, bits=8, points_per_list=32)
