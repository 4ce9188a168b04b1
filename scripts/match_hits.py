"""Which hits show what was asked for? Each of the first hits of every present query, before and after.

A hit of a noun is right if any caption of the photo names it. "Before" is the odds of the library's answer, lowered by
how far a hit's margin lies behind the best: until single hits had a model of their own, these were their confidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from match_data import Case, RealClip, Recorded
from match_measures import report_hits

from clipkit.matching import PHOTOGRAPHS, Calibration, HitCalibration, Matcher
from clipkit.matching.bank import ConceptBank
from clipkit.matching.calibration import fit_logistic, probability
from clipkit.matching.evidence import Reference, text_evidence
from clipkit.matching.hits import hit_evidence
from clipkit.matching.matcher import TOP
from clipkit.matching.statistics import LibraryStatistics
from clipkit.vectors.unit import unit


@dataclass(frozen=True)
class Hits:
    """The first hits of queries whose answer the library has, m in all.

    Attributes:
        evidence: (m, 3), of `hit_evidence`.
        before: (m,), the probability that a hit had before it had a model of its own.
        right: (m,) bool, whether it shows what was asked for.
        best: (m,) bool, whether it is the best of its query.
        answer: (m,), the probability that the library has what its query asks for.
        answered: (m,) bool, whether that suffices.
        known: (m,), the factor on probabilities for words that the model does not know.
        group: (m,), the noun.
        weight: (m,).
    """

    evidence: np.ndarray
    before: np.ndarray
    right: np.ndarray
    best: np.ndarray
    answer: np.ndarray
    answered: np.ndarray
    known: np.ndarray
    group: np.ndarray
    weight: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Hits:
        return Hits(*(values[rows] for values in vars(self).values()))

    @classmethod
    def joined(cls, parts: Iterable[Hits]) -> Hits:
        """Join several sets of hits."""
        return cls(*(np.concatenate(values) for values in zip(*(vars(p).values() for p in parts), strict=True)))


def first_hits(cases: Iterable[Case], weight: float = 1.0) -> Hits:
    """Return the first hits of all present queries of these cases."""
    return Hits.joined(
        _of_query(case, reference, row, weight)
        for case in cases
        if case.shows is not None and case.present.any()
        for reference in [reference_of_case(case)]
        for row in np.flatnonzero(case.present)
    )


def reference_of_case(case: Case) -> Reference:
    """Return the reference of a case's library."""
    bank = ConceptBank.of(case.bank)
    statistics = LibraryStatistics.empty(bank.dimension, len(bank.directions))
    statistics.add(case.library, bank)
    return Reference.of(statistics, bank)


def _of_query(case: Case, reference: Reference, row: int, weight: float) -> Hits:
    query = case.queries[row]
    nearest = np.argsort(-(case.library @ query), kind="stable")[:TOP]
    hits, direction = case.library[nearest], unit(query - reference.bank.mean)
    own, of_query = text_evidence(reference, query, direction, hits)
    answer = case.weights.text_logit(of_query)
    before = probability(answer + np.minimum(case.weights.behind(own, of_query), 0.0))
    evidence = hit_evidence(reference, query[None], direction[None], hits)[0]
    odds = case.weights.hits.logits(evidence)
    known = float(np.broadcast_to(case.known, len(case.queries))[row])
    confidence = known * float(probability(answer))
    count = len(nearest)
    return Hits(
        evidence=evidence,
        before=before * known,
        right=case.shows[row, nearest] if case.shows is not None else np.zeros(count, bool),
        best=odds == odds.max(),
        answer=np.full(count, confidence),
        answered=np.full(count, confidence >= case.weights.threshold),
        known=np.full(count, known),
        group=np.full(count, case.group[row]),
        weight=np.full(count, weight),
    )


def fit(train: Hits) -> HitCalibration:
    """Fit the weights of margin and distance; the cosine's is 0, because its scale differs between models."""
    margin, behind, offset = fit_logistic(train.evidence[:, :2], train.right, train.weight)
    return HitCalibration((float(margin), float(behind), 0.0), float(offset), PHOTOGRAPHS.hits.threshold)


def probabilities(calibration: HitCalibration, hits: Hits) -> np.ndarray:
    """Return the probability of each hit: (m,). Without an answer it is at most that of the library's, as shipped."""
    chance = probability(calibration.logits(hits.evidence)) * hits.known
    return np.where(hits.answered, chance, np.minimum(chance, hits.answer))


def report(name: str, chance: np.ndarray, hits: Hits, threshold: float) -> None:
    """Print one line; a hit is a match as `Matcher.judge` has it."""
    report_hits(name, chance, hits.right, hits.answered & ((chance >= threshold) | hits.best))


def report_before(hits: Hits, calibration: Calibration) -> None:
    """Print the line of the confidence that hits had before."""
    report_hits("before", hits.before, hits.right, hits.before >= calibration.threshold)


def across_nouns(train: Hits, test: Hits, rounds: int = 5, folds: int = 10) -> np.ndarray:
    """Return the probability of each tested hit with weights fitted to other nouns, averaged over rounds: (m,)."""
    names = np.unique(np.concatenate([train.group, test.group]))
    chance = np.zeros((rounds, len(test.right)))
    for turn in range(rounds):
        order = np.random.default_rng(turn).permutation(len(names)) % folds
        fold = dict(zip(names, order, strict=True))
        of_train, of_test = (np.array([fold[name] for name in part.group]) for part in (train, test))
        for held in range(folds):
            chance[turn, of_test == held] = probabilities(fit(train[of_train != held]), test[of_test == held])
    return chance.mean(axis=0)


def training_hits(data: RealClip) -> Hits:
    """Return the hits that weights are fitted to: those of salient nouns, and fewer of any noun."""
    salient = set(data.nouns())
    wide = data.some("any", strong=1, share=0.2)
    others = (case for i, case in zip(wide.nouns(), wide.present_cases(), strict=True) if i not in salient)
    return Hits.joined([first_hits(data.present_cases()), first_hits(others, weight=0.5)])


def across_photos(data: RealClip, rounds: int = 2) -> tuple[np.ndarray, Hits]:
    """Return the hits in one half of the photos and their probabilities with weights fitted to the other half."""
    chance, tested = [], []
    for turn in range(rounds):
        order = np.random.default_rng(100 + turn).permutation(len(data.images))
        halves = [data.some("half", half) for half in np.array_split(order, 2)]
        for here, there in (halves, halves[::-1]):
            test = first_hits(here.present_cases())
            chance.append(probabilities(fit(training_hits(there)), test))
            tested.append(test)
    return np.concatenate(chance), Hits.joined(tested)


def judge_hits(data: RealClip, fitted: bool) -> None:
    """Print the table for real vectors."""
    shipped, bar = PHOTOGRAPHS.hits, PHOTOGRAPHS.hits.threshold
    salient, train = first_hits(data.present_cases()), training_hits(data)
    print(f"\nsingle hits, the first {TOP} of {len(data.nouns())} salient nouns that are present:")
    report_before(salient, PHOTOGRAPHS)
    report("clipkit, weights from other nouns", across_nouns(train, salient), salient, bar)
    report("clipkit, as shipped", probabilities(shipped, salient), salient, bar)
    chance, halves = across_photos(data)
    report_before(halves, PHOTOGRAPHS)
    report("clipkit, weights from other photos, halves", chance, halves, bar)
    report("clipkit, as shipped, halves", probabilities(shipped, halves), halves, bar)
    if fitted:
        print(f"hits = {fit(train)}")


def judge_scenes(data: Recorded) -> None:
    """Print the table for painted scenes; their weights come from other scenes."""
    hits = first_hits([data.all()])
    print(f"\nsingle hits of {data.name}, the first {TOP} of each present query:")
    report_before(hits, data.weights)
    report("clipkit, without parts", probabilities(data.weights.hits, hits), hits, data.weights.hits.threshold)
    matcher = Matcher.fit(data.library, data.bank, calibration=data.weights)
    judged = []
    for row in np.flatnonzero(data.present):
        nearest = data.library[np.argsort(-(data.library @ data.queries[row]), kind="stable")[:TOP]]
        parts, known = data.parts_of(row), float(data.known[row])
        judged.append(matcher.judge(data.queries[row], nearest, "text", parts=parts, known=known))
    chance, shows = (np.concatenate([getattr(j, name) for j in judged]) for name in ("hits", "shows"))
    report_hits("clipkit, as shipped", chance, hits.right, shows)
