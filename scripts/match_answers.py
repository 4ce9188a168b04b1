"""Does the library have it? Weights fitted to real vectors and cross-validated over nouns and photos."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from match_data import SIZES, Case, RealClip
from match_measures import auroc, report, threshold_of

from clipkit.matching import PHOTOGRAPHS, calibration
from clipkit.matching.bank import ConceptBank
from clipkit.matching.evidence import Reference, text_evidence
from clipkit.matching.matcher import TOP
from clipkit.matching.statistics import LibraryStatistics
from clipkit.vectors.unit import unit

COSINE, SIZE = 1, 6
"""Columns of the evidence."""
SHIPPED = np.append(PHOTOGRAPHS.text_weights, PHOTOGRAPHS.text_offset)


@dataclass(frozen=True)
class Examples:
    """Evidence (m, 7), presence (m,), groups (m,) and weights (m,) of queries."""

    evidence: np.ndarray
    present: np.ndarray
    group: np.ndarray
    weight: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Examples:
        return Examples(self.evidence[rows], self.present[rows], self.group[rows], self.weight[rows])

    def __add__(self, other: Examples) -> Examples:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Examples(*(np.concatenate(pair) for pair in pairs))


def examples(cases: Iterable[Case], weight: float = 1.0) -> Examples:
    """Return the evidence of all queries of these cases."""
    evidence, present, group = [], [], []
    for case in cases:
        bank = ConceptBank.of(case.bank)
        statistics = LibraryStatistics.empty(bank.dimension, len(bank.directions))
        statistics.add(case.library, bank)
        reference = Reference.of(statistics, bank)
        for query in case.queries:
            hits = case.library[np.argsort(-(case.library @ query))[:TOP]]
            evidence.append(text_evidence(reference, query, unit(query - bank.mean), hits)[1])
        present.append(case.present)
        group.append(case.group)
    labels = np.concatenate(present)
    return Examples(np.array(evidence), labels, np.concatenate(group), np.full(len(labels), weight))


def fit(train: Examples) -> np.ndarray:
    """Return the weights of the seven numbers, then the offset. The cosine has 0: its scale differs between models."""
    evidence = train.evidence * (np.arange(train.evidence.shape[1]) != COSINE)
    return calibration.fit_logistic(evidence, train.present, train.weight)


def predict(weights: np.ndarray, test: Examples) -> np.ndarray:
    """Return the confidence of each example: (m,)."""
    return calibration.probability(test.evidence @ weights[:-1] + weights[-1])


def cross_validate_nouns(name: str, train: Examples, test: Examples, rounds: int = 5, folds: int = 10) -> None:
    """Report weights and thresholds fitted to other nouns."""
    names = np.unique(np.concatenate([train.group, test.group]))
    confidence, refused = np.zeros((rounds, len(test.present))), np.zeros((rounds, len(test.present)))
    for turn in range(rounds):
        fold = dict(zip(np.random.default_rng(turn).permutation(names), itertools.cycle(range(folds)), strict=False))
        of_train, of_test = (np.array([fold[name] for name in part.group]) for part in (train, test))
        for held in range(folds):
            known = train[of_train != held]
            weights = fit(known)
            full = known[is_large(known)]
            bar = threshold_of(predict(weights, full), full.present)
            confidence[turn, of_test == held] = predict(weights, test[of_test == held])
            refused[turn, of_test == held] = confidence[turn, of_test == held] < bar
    # The rounds answer the same queries with other weights, so they are averaged, not pooled.
    report(name, confidence.mean(0), test.present, refused.mean(0) > 0.5)


def training_set(data: RealClip, seed: int) -> Examples:
    """Return salient nouns, any nouns, and a few small libraries, which teach what the number of pictures means."""
    wide = data.some("any", strong=1, share=0.2)
    return (
        examples(data.cases(), 2.0)
        + examples(wide.cases())
        + examples(wide.small_cases(np.random.default_rng(seed)), 0.2)
    )


def is_large(part: Examples) -> np.ndarray:
    """Return which examples come from whole libraries, by which the threshold is chosen: (m,) bool."""
    return part.evidence[:, SIZE] > np.log10(max(SIZES)) + 0.01


def cross_validate_photos(data: RealClip, parts: int, rounds: int) -> None:
    """Report weights and thresholds fitted to one of so many parts of the photos, on a library of all the others.

    The fewer photos a library has, the harder its queries are: their nouns then have two clear photos and no more. So
    the result of the shipped weights on the same libraries is printed beside it.
    """
    confidence, present, refused, unseen, shipped = [], [], [], [], []
    for turn in range(rounds):
        order = np.random.default_rng(100 + turn).permutation(len(data.images))
        for part in np.array_split(order, parts):
            train = training_set(data.some("part", part), turn)
            test = examples(data.some("others", np.setdiff1d(order, part)).cases())
            weights = fit(train)
            full = train[is_large(train)]
            bar = threshold_of(predict(weights, full), full.present)
            confidence.append(predict(weights, test))
            present.append(test.present)
            refused.append(confidence[-1] < bar)
            unseen.append(auroc(confidence[-1], test.present))
            shipped.append(auroc(predict(SHIPPED, test), test.present))
    report(f"clipkit, weights from 1/{parts} of the photos", *map(np.concatenate, (confidence, present, refused)))
    print(
        f"{'':44s} AUROC {np.mean(unseen):.3f} ± {np.std(unseen):.3f} over {len(unseen)} libraries of the others; "
        f"the shipped weights {np.mean(shipped):.3f}"
    )
