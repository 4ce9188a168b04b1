"""Queries by picture, on real vectors."""

from __future__ import annotations

import numpy as np
from match_data import RealClip
from match_measures import report

from clipkit.matching import PHOTOGRAPHS, calibration
from clipkit.matching.bank import ConceptBank
from clipkit.matching.evidence import Reference
from clipkit.matching.matcher import TOP
from clipkit.matching.pictures import picture_similarity
from clipkit.matching.statistics import LibraryStatistics


def picture_cases(data: RealClip, rng: np.random.Generator, most: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Query the other photos by photos that clearly show a noun, with and without those that name it.

    Return the best similarity of a hit, and whether another photo of the noun was present.
    """
    bank = ConceptBank.of(data.texts)
    statistics = LibraryStatistics.empty(bank.dimension, len(bank.directions))
    statistics.add(data.images, bank)
    reference = Reference.of(statistics, bank)
    similar, present = [], []
    for noun in data.nouns():
        for asked in rng.permutation(np.flatnonzero(data.mentions[noun] >= 3))[:most]:
            for there in (True, False):
                kept = np.ones(len(data.images), bool) if there else data.mentions[noun] == 0
                kept[asked] = False
                library = data.images[kept]
                hits = library[np.argsort(-(library @ data.images[asked]))[:TOP]]
                similar.append(picture_similarity(reference, data.images[asked], hits).max())
                present.append(there)
    return np.array(similar), np.array(present)


def judge_pictures(data: RealClip, fitted: bool) -> None:
    """Report weights fitted to one half of the photos on the other, and the shipped weights on all."""
    halves = np.array_split(np.random.default_rng(7).permutation(len(data.images)), 2)
    parts = [picture_cases(data.some("half", half), np.random.default_rng(0)) for half in halves]
    confidence = []
    for (train, labels), (test, _) in zip(parts, reversed(parts), strict=True):
        slope, offset = calibration.fit_logistic(train[:, None], labels, penalty=0.01)
        confidence.append(calibration.probability(slope * test + offset))
    present = np.concatenate([labels for _, labels in reversed(parts)])
    pooled = np.concatenate(confidence)
    bar = PHOTOGRAPHS.threshold
    report("queries by picture, weights from other photos", pooled, present, pooled < bar)
    similar, present = picture_cases(data, np.random.default_rng(0))
    shipped = calibration.probability(PHOTOGRAPHS.image_logit(similar))
    report("queries by picture, as shipped", shipped, present, shipped < bar)
    if fitted:
        slope, offset = calibration.fit_logistic(similar[:, None], present, penalty=0.01)
        print(f"image_slope = {slope:.2f}, image_middle = {-offset / slope:.3f}")
