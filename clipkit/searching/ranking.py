"""From an embedded query to hits: the nearest pictures whose files are there, each with its confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipkit.catalog.records import ImageRow
from clipkit.searching.result import Hit

SPARE = 8
"""Candidates taken beyond k, so that a few vanished files do not cost a second search."""

Search = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""How many -> scores float32 (n,), embedding ids int64 (n,), best first, n at most as many as asked for."""

FilesOf = Callable[[np.ndarray], dict[int, list[ImageRow]]]
"""Embedding ids -> the files of each, those that the filters let through."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture near the query: its embedding's id, cosine similarity, and files that exist, the one to show first."""

    embedding: int
    score: float
    files: Sequence[ImageRow]


def nearest_existing(search: Search, files_of: FilesOf, k: int) -> tuple[list[Candidate], int]:
    """The k nearest pictures that still have a file, and how many were passed over because theirs have gone."""
    wanted, gone = k + SPARE, 0
    while True:
        scores, ids = search(wanted)
        files = files_of(ids)
        found: list[Candidate] = []
        gone = 0
        for score, embedding in zip(scores.tolist(), ids.tolist(), strict=True):
            there = [row for row in files.get(embedding, ()) if row.path.exists()]
            if there:
                found.append(Candidate(embedding, score, there))
            else:
                gone += 1
            if len(found) == k:
                return found, gone
        if len(ids) < wanted:
            return found, gone
        wanted *= 2


def to_hits(candidates: Sequence[Candidate], confidences: np.ndarray, threshold: float) -> tuple[Hit, ...]:
    """Hits with ranks from 1; `confidences` float (n,), those of at least `threshold` match."""
    return tuple(
        Hit(
            rank=rank,
            path=candidate.files[0].path,
            score=candidate.score,
            confidence=float(confidence),
            matched=bool(confidence >= threshold),
            id=candidate.files[0].id,
            copies=tuple(row.path for row in candidate.files[1:]),
            width=candidate.files[0].width,
            height=candidate.files[0].height,
            taken_at=candidate.files[0].taken_at,
            camera=candidate.files[0].camera,
            utc_offset=candidate.files[0].utc_offset,
        )
        for rank, (candidate, confidence) in enumerate(zip(candidates, confidences, strict=True), start=1)
    )
