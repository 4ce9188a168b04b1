"""From an embedded query to hits: the nearest pictures whose files are there, or away, each with its confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipkit.catalog.rows import ImageRow
from clipkit.searching.presence import Looker, Presence
from clipkit.searching.result import Hit

SPARE = 8
"""Candidates taken beyond k, so that a few vanished files do not cost a second search."""

MOST_GONE, MOST_CANDIDATES = 1000, 20_000
"""A search gives up after it has looked in vain for this many files, or has this many candidates more than it needs."""

MOST_COPIES = 100
"""Files of one picture that are looked for: enough to show."""

Search = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""How many -> scores float32 (n,), embedding ids int64 (n,), best first, n at most as many as asked for."""

FilesOf = Callable[[np.ndarray], dict[int, list[ImageRow]]]
"""Embedding ids -> the files of each, those that the filters let through."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture near the query: its embedding's id, cosine similarity, and its files, the one to show first.

    `away`: none of them is there, but they lie on a drive that is away.
    """

    embedding: int
    score: float
    files: Sequence[ImageRow]
    away: bool = False


@dataclass(slots=True)
class PassedOver:
    """Pictures that were nearer than those found, and why they were passed over. `all`: whether the search went on to
    its end, rather than stop at so many."""

    gone: int = 0
    unreadable: int = 0
    all: bool = True


def nearest_existing(search: Search, files_of: FilesOf, looker: Looker, k: int) -> tuple[list[Candidate], PassedOver]:
    """The k nearest pictures that have a file, or had one on a drive that is away, and those that were passed over.

    It gives up after `MOST_GONE` or `MOST_CANDIDATES`.
    """
    found: list[Candidate] = []
    passed = PassedOver()
    done, wanted = 0, k + SPARE
    while True:
        scores, ids = search(wanted)
        files = files_of(ids[done:])
        for score, embedding in zip(scores[done:].tolist(), ids[done:].tolist(), strict=True):
            by_presence: dict[Presence, list[ImageRow]] = {"here": [], "away": [], "gone": [], "unreadable": []}
            for row in files.get(embedding, ()):
                if len(by_presence["here"]) >= MOST_COPIES or looker.in_vain >= MOST_GONE:
                    break
                by_presence[looker.look(row.path)].append(row)
            here, away = by_presence["here"], by_presence["away"]
            if here or away:
                found.append(Candidate(embedding, score, [*here, *away], away=not here))
            elif by_presence["unreadable"]:
                passed.unreadable += 1
            else:
                passed.gone += 1
            if len(found) == k:
                return found, passed
            if looker.in_vain >= MOST_GONE:
                passed.all = False
                return found, passed
        if len(ids) < wanted:
            return found, passed
        if wanted >= k + MOST_CANDIDATES:
            passed.all = False
            return found, passed
        done, wanted = len(ids), min(4 * wanted, k + MOST_CANDIDATES)


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
            away=candidate.away,
            utc_offset=candidate.files[0].utc_offset,
        )
        for rank, (candidate, confidence) in enumerate(zip(candidates, confidences, strict=True), start=1)
    )


def files_notes(candidates: Sequence[Candidate], passed: PassedOver, looker: Looker) -> list[str]:
    """What a person should know of the files: which are away, and how many pictures were passed over, and why."""
    notes = []
    away = sum(candidate.away for candidate in candidates)
    if away:
        hits = "1 hit lies" if away == 1 else f"{away:,} hits lie"
        notes.append(f"{hits} on a drive or in a folder that is away")
    if passed.unreadable:
        files = "1 file" if passed.unreadable == 1 else f"{passed.unreadable:,} files"
        notes.append(f"passed over {files} that cannot be read now, in {looker.unreadable_folder}")
    if passed.gone:
        files = "1 file that has" if passed.gone == 1 else f"{passed.gone:,} files that have"
        notes.append(f"passed over {files} gone since the last `clipkit index`")
    if not passed.all:
        notes.append("so many files have gone that the search stopped; run `clipkit index`, then search again")
    return notes
