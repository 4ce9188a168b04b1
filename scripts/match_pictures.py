"""Queries by picture: does the library show the same, which hits show the same kind of thing, and which are copies?

What pictures show is judged on real vectors: photos that clearly show a noun ask for others whose captions name it.
Copies are judged with the bundled model on edited copies of real photos and of painted scenes, because the real vectors
come without their photos; these can only tell how often a different photo would pass for a copy.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from match_data import RealClip
from match_measures import auroc, report, report_hits
from PIL import Image

from clipkit.matching import PHOTOGRAPHS, Calibration
from clipkit.matching.bank import ConceptBank
from clipkit.matching.calibration import Curve, fit_logistic, probability
from clipkit.matching.evidence import Reference
from clipkit.matching.matcher import TOP
from clipkit.matching.pictures import concept_overlap, copy_distance
from clipkit.matching.statistics import LibraryStatistics
from clipkit.models.loading import load_encoder
from clipkit.samples.painting import paint
from clipkit.samples.world import random_scene
from clipkit.training.edited_copies import EDITS
from clipkit.vectors.unit import unit

PHOTOS = Path(__file__).parents[1] / ".." / "shared" / "photos"


@dataclass(frozen=True)
class PictureQueries:
    """Photos that clearly show a noun, each asked of the other photos with and without those that name it.

    Attributes:
        overlap: (q, k), of each hit.
        present: (q,) bool, whether photos that name the noun were in the library.
        alike: (q, k) bool, whether a hit shares a salient noun with the query.
        group: (q,), the noun.
    """

    overlap: np.ndarray
    present: np.ndarray
    alike: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, data: RealClip, rng: np.random.Generator, most: int = 4) -> PictureQueries:
        """Ask with at most so many photos a noun."""
        reference = reference_of(data.images, data.texts)
        named = data.mentions[data.nouns()]
        rows = []
        for noun in data.nouns():
            for asked in rng.permutation(np.flatnonzero(data.mentions[noun] >= 3))[:most]:
                for there in (True, False):
                    kept = np.ones(len(data.images), bool) if there else data.mentions[noun] == 0
                    kept[asked] = False
                    others = np.flatnonzero(kept)
                    nearest = others[np.argsort(-(data.images[others] @ data.images[asked]))[:TOP]]
                    overlap = concept_overlap(reference, data.images[asked], data.images[nearest])
                    alike = (named[named[:, asked] >= 3][:, nearest] > 0).any(axis=0)
                    rows.append((overlap, there, alike, noun))
        overlap, present, alike, group = (np.array(column) for column in zip(*rows, strict=True))
        return cls(overlap, present, alike, group)

    def answer_curve(self) -> Curve:
        """Fit the probability that the library shows the same."""
        return curve(self.overlap.max(axis=1), self.present)

    def similar_curve(self) -> Curve:
        """Fit the probability that a hit shows the same kind of thing."""
        return curve(self.overlap[self.present].ravel(), self.alike[self.present].ravel())


def curve(numbers: np.ndarray, labels: np.ndarray) -> Curve:
    """Fit a logistic function of one number."""
    slope, offset = fit_logistic(numbers[:, None], labels, penalty=0.01)
    return Curve(round(float(slope), 2), round(float(-offset / slope), 3))


def reference_of(pictures: np.ndarray, texts: np.ndarray) -> Reference:
    """Return the reference of a library of these vectors."""
    bank = ConceptBank.of(texts)
    statistics = LibraryStatistics.empty(bank.dimension, len(bank.directions))
    statistics.add(pictures, bank)
    return Reference.of(statistics, bank)


def judge_pictures(data: RealClip, fitted: bool) -> None:
    """Report weights fitted to one half of the photos on the other, and the shipped weights on all."""
    halves = np.array_split(np.random.default_rng(7).permutation(len(data.images)), 2)
    parts = [PictureQueries.of(data.some("half", half), np.random.default_rng(0)) for half in halves]
    chance, present, each, alike = [], [], [], []
    for train, test in zip(parts, reversed(parts), strict=True):
        chance.append(probability(train.answer_curve()(test.overlap.max(axis=1))))
        present.append(test.present)
        each.append(probability(train.similar_curve()(test.overlap[test.present].ravel())))
        alike.append(test.alike[test.present].ravel())
    bar, bar_of_hits = PHOTOGRAPHS.threshold, PHOTOGRAPHS.hits.threshold
    pooled, labels = np.concatenate(chance), np.concatenate(present)
    print("\nqueries by picture: does the library show the same?")
    report("weights from other photos", pooled, labels, pooled < bar)
    queries, weights = PictureQueries.of(data, np.random.default_rng(0)), PHOTOGRAPHS.pictures
    shipped = probability(weights.answer(queries.overlap.max(axis=1)))
    report("as shipped", shipped, queries.present, shipped < bar)
    print(f"similar, the first {TOP} hits of each: does it share a salient noun?")
    pooled, labels = np.concatenate(each), np.concatenate(alike)
    report_hits("weights from other photos", pooled, labels, pooled >= bar_of_hits)
    shipped = probability(weights.similar(queries.overlap[queries.present].ravel()))
    report_hits("as shipped", shipped, queries.alike[queries.present].ravel(), shipped >= bar_of_hits)
    reference = reference_of(data.images, data.texts)
    others = data.images @ data.images.T - 2 * np.eye(len(data.images))
    nearest = data.images[others.argmax(axis=1)]
    passed = [
        float(probability(weights.copy(copy_distance(reference, query, hit[None])))[0])
        for query, hit in zip(data.images, nearest, strict=True)
    ]
    print(f"the nearest other photo passes for a copy in {np.mean(np.array(passed) >= 0.5):.4f} of {len(passed)}")
    if fitted:
        print(f"answer = {queries.answer_curve()}, similar = {queries.similar_curve()}")


def judge_copies(fitted: bool) -> None:
    """Report how well edited copies are told from other pictures, with the bundled model."""
    encoder = load_encoder("tiny", "cpu")
    rng = random.Random(12)
    sets = {
        "painted scenes": ([paint(random_scene(rng), 192) for _ in range(300)], Calibration.from_json(encoder.match))
    }
    if PHOTOS.exists():
        photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
        sets["photos"] = photos, PHOTOGRAPHS
    bank = unit(encoder.encode_texts(list(encoder.concepts)))
    for name, (originals, calibration) in sets.items():
        library = _vectors(encoder, originals)
        reference = reference_of(library, bank)
        distances, copied, kinds = [], [], []
        for kind, edit in EDITS.items():
            for row, copy in enumerate(_vectors(encoder, [edit(original, rng) for original in originals])):
                others = np.delete(library, row, axis=0)
                nearest = others[np.argsort(-(others @ copy))[: TOP - 1]]
                distances.append(copy_distance(reference, copy, np.concatenate([library[row][None], nearest])))
                copied.append(np.arange(1 + len(nearest)) == 0)
                kinds.append(kind)
        numbers, labels, kind_of = np.concatenate(distances), np.concatenate(copied), np.array(kinds)
        chance = probability(calibration.pictures.copy(numbers))
        print(f"\ncopies, {len(EDITS)} edits of {len(originals)} {name}, among their {TOP} nearest:")
        report_hits("as shipped", chance, labels, chance >= 0.5)
        found = chance[labels] >= 0.5
        print("found: " + ", ".join(f"{kind} {found[kind_of == kind].mean():.2f}" for kind in EDITS))
        small = np.isin(kind_of, [kind for kind in EDITS if kind not in ("grey", "mirrored", "crop to 70%")])
        kept = np.repeat(small, TOP)
        print(f"AUROC of the small edits alone {auroc(chance[kept], labels[kept]):.3f}")
        if fitted:
            print(f"copy = {curve(numbers, labels)}")


def _vectors(encoder, pictures: list[Image.Image]) -> np.ndarray:
    pixels = encoder.preprocessing.pixels
    parts = [
        encoder.encode_images(np.stack([pixels(picture) for picture in pictures[start : start + 64]]))
        for start in range(0, len(pictures), 64)
    ]
    return unit(np.concatenate(parts))
