"""From evidence to a probability: one logistic model, whose weights belong to a kind of space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Calibration:
    """The weights of the decision.

    `text_weights`: of the seven numbers of `text_evidence` (the best hit's margin and cosine similarity; lead, margin
    over near concepts and rank of the four best; spread of the words; number of pictures), and `text_offset`.
    `image_slope`, `image_middle`: of the similarity of two pictures. `threshold`: the confidence from which a hit is a
    match, chosen so that at most one in ten queries that a library can answer is turned away.
    """

    text_weights: tuple[float, ...]
    text_offset: float
    image_slope: float
    image_middle: float
    threshold: float

    def text_logit(self, evidence: NDArray[np.float64]) -> float:
        """Log odds that the library has what a text asks for, from the evidence of `text_evidence`."""
        return float(evidence @ np.array(self.text_weights)) + self.text_offset

    def behind(self, own: NDArray[np.float64], evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the log odds of each hit lie from those of the best: `own` (k, 2), `evidence` (7,) to (k,)."""
        return (own - evidence[: own.shape[1]]) @ np.array(self.text_weights[: own.shape[1]])

    def image_logit(self, similarity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log odds that a picture shows what the query picture shows, from their similarity in [-1, 1]."""
        return self.image_slope * (similarity - self.image_middle)

    def to_json(self) -> dict:
        """Plain data, as a space's configuration keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping) -> Calibration:
        """What `to_json` gave. Raises TypeError, ValueError or KeyError for anything else."""
        numbers = {name: float(fields[name]) for name in ("text_offset", "image_slope", "image_middle", "threshold")}
        weights = tuple(float(weight) for weight in fields["text_weights"])
        if len(weights) != len(PHOTOGRAPHS.text_weights) or not np.isfinite([*weights, *numbers.values()]).all():
            raise ValueError(f"a calibration has {len(PHOTOGRAPHS.text_weights)} text weights, and finite numbers")
        return cls(text_weights=weights, **numbers)


PHOTOGRAPHS = Calibration((0.69, 0.0, 0.67, 0.47, -0.77, -2.98, -1.29), -0.33, 5.8, 0.55, 0.272)
"""For CLIP models of photographs.

The weights were fitted on public research vectors (`scripts/evaluate_match.py --fit`), on libraries of one to a
thousand pictures with and without what is asked, and are judged there with words and pictures that they have not
seen. They speak of dimensionless numbers, so that they hold for other spaces of the kind; the cosine counts for
nothing here, because every space has its own scale of it.
"""


def probability(logit: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The logistic function, without overflow."""
    return 1 / (1 + np.exp(-np.clip(logit, -50, 50)))


def fit_logistic(
    evidence: ArrayLike, present: ArrayLike, weight: ArrayLike | None = None, penalty: float = 1.0
) -> NDArray[np.float64]:
    """Logistic regression by Newton's method, (m, e), (m,) bool, (m,) to (e + 1,): the offset last.

    `penalty` is on the squared weights of evidence in units of its standard deviation, not on the offset.
    """
    rows, labels = np.asarray(evidence, np.float64), np.asarray(present, np.float64)
    spread = rows.std(axis=0)
    unit_of = np.append(np.where(spread > 0, spread, 1.0), 1.0)
    x = np.c_[rows, np.ones(len(rows))] / unit_of
    counts = np.ones(len(rows)) if weight is None else np.asarray(weight, np.float64)
    weights, ridge = np.zeros(x.shape[1]), penalty * np.diag([1.0] * (x.shape[1] - 1) + [0.0])
    for _ in range(25):
        chance = probability(x @ weights)
        slope = x.T @ (counts * (chance - labels)) + ridge @ weights
        curve = (x * (counts * np.maximum(chance * (1 - chance), 1e-9))[:, None]).T @ x
        weights = weights - np.linalg.solve(curve + ridge, slope)
    return weights / unit_of
