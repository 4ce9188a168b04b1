"""Calibrate queries by picture for a model of the sample world: what pictures show, and copies of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image

from clipkit.matching.calibration import Curve, PictureCalibration, fit_logistic
from clipkit.matching.evidence import Reference
from clipkit.matching.pictures import concept_overlap, copy_distance
from clipkit.models.encoder import Encoder
from clipkit.samples.world import Scene
from clipkit.training.edited_copies import EDITS
from clipkit.vectors.unit import unit

COPIED = 8
"""Pictures of each library that every edit is applied to."""


class PictureEvidence:
    """What queries by picture say about their hits, collected over several libraries."""

    def __init__(self) -> None:
        self._best: list[float] = []
        self._present: list[bool] = []
        self._overlaps: list[np.ndarray] = []
        self._alike: list[np.ndarray] = []
        self._distances: list[np.ndarray] = []
        self._copied: list[np.ndarray] = []

    def add_query(
        self, reference: Reference, query: np.ndarray, hits: np.ndarray, alike: np.ndarray, present: bool
    ) -> None:
        """Add a query by picture.

        query: (d,) float32 unit. hits: (k, d) float32 unit.
        alike: (k,) bool, whether a hit shows a thing that the query picture shows.
        present: whether the library has a picture of the same content.
        """
        overlap = concept_overlap(reference, query, hits)
        self._best.append(float(overlap.max()))
        self._present.append(present)
        if present:
            self._overlaps.append(overlap)
            self._alike.append(alike)

    def add_copy(self, reference: Reference, copy: np.ndarray, original: np.ndarray, others: np.ndarray) -> None:
        """Add an edited copy (d,), its original (d,), and the other pictures nearest to the copy, (k, d)."""
        self._distances.append(copy_distance(reference, copy, np.concatenate([original[None], others])))
        self._copied.append(np.arange(1 + len(others)) == 0)

    def fit(self) -> PictureCalibration:
        """Fit the weights. Raises ValueError if nothing was added."""
        return PictureCalibration(
            answer=_curve(np.array(self._best), np.array(self._present)),
            similar=_curve(np.concatenate(self._overlaps), np.concatenate(self._alike)),
            copy=_curve(np.concatenate(self._distances), np.concatenate(self._copied)),
        )


def add_edited_copies(
    evidence: PictureEvidence,
    reference: Reference,
    encoder: Encoder,
    originals: Sequence[Image.Image],
    library: np.ndarray,
    nearest: int,
    rng: random.Random,
) -> None:
    """Add every edit of some pictures of a library.

    originals: RGB pictures, the first of the library. library: (n, d) float32 unit.
    """
    pixels = encoder.preprocessing.pixels
    for edit in EDITS.values():
        copies = unit(encoder.encode_images(np.stack([pixels(edit(original, rng)) for original in originals])))
        for row, copy in enumerate(copies):
            others = np.delete(library, row, axis=0)
            evidence.add_copy(reference, copy, library[row], others[np.argsort(-(others @ copy))[:nearest]])


def shares_a_thing(first: Scene, second: Scene) -> bool:
    """Return whether two scenes show the same kind of thing."""
    return bool(first.content[1] & second.content[1])


def _curve(numbers: np.ndarray, labels: np.ndarray) -> Curve:
    slope, offset = (float(weight) for weight in fit_logistic(numbers[:, None], labels, penalty=0.01))
    return Curve(round(slope, 3), round(-offset / slope, 3) if slope else 0.0)
