"""From nearest neighbours to hits: pictures whose files exist or are away, each with its confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipkit.catalog.rows import ImageRow
from clipkit.matching import Judgement
from clipkit.searching.presence import Presence, PresenceChecker
from clipkit.searching.result import Hit

SPARE_CANDIDATES = 8
"""Candidates fetched beyond k, so that a few deleted files do not cost a second search."""

MAX_FAILED_CHECKS, MAX_EXTRA_CANDIDATES = 1000, 20_000
"""A search stops after this many files that cannot be shown, or this many candidates beyond k."""

MAX_COPIES = 100
"""Files listed per picture."""

Search = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""n -> scores float32 (m,) and embedding ids int64 (m,), best first, m <= n."""

FilesOf = Callable[[np.ndarray], dict[int, list[ImageRow]]]
"""Embedding ids -> the files of each that pass the filters."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture near the query: embedding id, cosine similarity, and its files, the one to show first.

    `away`: none of its files exists now, but they are on a drive that is away.
    """

    embedding: int
    score: float
    files: Sequence[ImageRow]
    away: bool = False


@dataclass(slots=True)
class Skipped:
    """Counts of nearer pictures that were skipped, by reason. `complete`: the search did not stop early."""

    gone: int = 0
    unreadable: int = 0
    complete: bool = True


def nearest_existing(
    search: Search, files_of: FilesOf, checker: PresenceChecker, k: int
) -> tuple[list[Candidate], Skipped]:
    """Return the k nearest pictures with a file that exists or is away, and what was skipped on the way.

    Stops early after `MAX_FAILED_CHECKS` or `MAX_EXTRA_CANDIDATES`.
    """
    found: list[Candidate] = []
    skipped = Skipped()
    done, wanted = 0, k + SPARE_CANDIDATES
    while True:
        scores, ids = search(wanted)
        files = files_of(ids[done:])
        for score, embedding in zip(scores[done:].tolist(), ids[done:].tolist(), strict=True):
            by_presence: dict[Presence, list[ImageRow]] = {"here": [], "away": [], "gone": [], "unreadable": []}
            for row in files.get(embedding, ()):
                if len(by_presence["here"]) >= MAX_COPIES or checker.failed_checks >= MAX_FAILED_CHECKS:
                    break
                by_presence[checker.check(row.path)].append(row)
            here, away = by_presence["here"], by_presence["away"]
            if here or away:
                found.append(Candidate(embedding, score, [*here, *away], away=not here))
            elif by_presence["unreadable"]:
                skipped.unreadable += 1
            else:
                skipped.gone += 1
            if len(found) == k:
                return found, skipped
            if checker.failed_checks >= MAX_FAILED_CHECKS:
                skipped.complete = False
                return found, skipped
        if len(ids) < wanted:
            return found, skipped
        if wanted >= k + MAX_EXTRA_CANDIDATES:
            skipped.complete = False
            return found, skipped
        done, wanted = len(ids), min(4 * wanted, k + MAX_EXTRA_CANDIDATES)


def to_hits(
    candidates: Sequence[Candidate], judged: Judgement, parts: Sequence[str] = (), *, row: int = 0, rank: int = 1
) -> tuple[Hit, ...]:
    """Return hits.

    candidates: some of those that were judged, in the order in which they were.
    parts: the parts of the query, as texts.
    row: the first candidate's row among those judged. rank: its rank.
    """
    return tuple(
        Hit(
            rank=rank + place,
            path=candidate.files[0].path,
            score=candidate.score,
            confidence=float(judged.hits[row + place]),
            matched=bool(judged.shows[row + place]),
            id=candidate.files[0].id,
            copies=tuple(file.path for file in candidate.files[1:]),
            width=candidate.files[0].width,
            height=candidate.files[0].height,
            taken_at=candidate.files[0].taken_at,
            camera=candidate.files[0].camera,
            away=candidate.away,
            utc_offset=candidate.files[0].utc_offset,
            lacks=tuple(part for part, missed in zip(parts, judged.lacks[:, row + place], strict=True) if missed),
            copy=None if judged.copies is None else float(judged.copies[row + place]),
        )
        for place, candidate in enumerate(candidates)
    )
