"""From evidence to probabilities: logistic models with one set of weights per kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class HitCalibration:
    """The weights of the probability that one hit shows what a text asks for.

    weights: of the three numbers of `hit_evidence`: margin, distance to the best hit, cosine similarity.
    offset: log odds of a hit whose numbers are all 0.
    threshold: the probability from which a hit is a match.
    """

    weights: tuple[float, float, float]
    offset: float
    threshold: float

    def logits(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log odds from the evidence of `hit_evidence`: (..., 3) to (...)."""
        return evidence @ np.array(self.weights) + self.offset

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> HitCalibration:
        """Restore from plain data. Raises TypeError, ValueError or KeyError for anything else."""
        margin, behind, cosine = (float(weight) for weight in fields["weights"])
        offset, threshold = float(fields["offset"]), float(fields["threshold"])
        if not np.isfinite([margin, behind, cosine, offset, threshold]).all():
            raise ValueError("a calibration of hits has finite numbers")
        return cls((margin, behind, cosine), offset, threshold)


@dataclass(frozen=True)
class Calibration:
    """The weights and thresholds of the match decision.

    text_weights: one weight for each of the seven numbers of `text_evidence`.
    text_offset: intercept of the same logistic model.
    image_slope, image_middle: slope and midpoint of the logistic function of the similarity of two pictures.
    threshold: confidence from which the library has what is asked for; chosen so that at most one in ten queries that
        a library can answer is rejected. Hits of a query by picture are matches from here on, too.
    hits: the weights and the threshold of single hits of a text query.
    """

    text_weights: tuple[float, ...]
    text_offset: float
    image_slope: float
    image_middle: float
    threshold: float
    hits: HitCalibration

    def text_logit(self, evidence: NDArray[np.float64]) -> float:
        """Return the log odds that the library has what a text asks for, from the evidence of `text_evidence`."""
        return float(evidence @ np.array(self.text_weights)) + self.text_offset

    def behind(self, own: NDArray[np.float64], evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log odds of each hit relative to the best one: `own` (k, 2), `evidence` (7,) -> (k,)."""
        return (own - evidence[: own.shape[1]]) @ np.array(self.text_weights[: own.shape[1]])

    def image_logit(self, similarity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log odds that a picture shows what the query picture shows, from their similarity in [-1, 1]."""
        return self.image_slope * (similarity - self.image_middle)

    def to_json(self) -> dict:
        """Return plain data for a model's configuration."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping) -> Calibration:
        """Restore from the data of `to_json`. Raises TypeError, ValueError or KeyError for anything else.

        Without weights for single hits it takes those for photographs.
        """
        numbers = {name: float(fields[name]) for name in ("text_offset", "image_slope", "image_middle", "threshold")}
        weights = tuple(float(weight) for weight in fields["text_weights"])
        if len(weights) != len(PHOTOGRAPHS.text_weights) or not np.isfinite([*weights, *numbers.values()]).all():
            raise ValueError(f"a calibration has {len(PHOTOGRAPHS.text_weights)} text weights, and finite numbers")
        hits = HitCalibration.from_json(fields["hits"]) if "hits" in fields else PHOTOGRAPHS.hits
        return cls(text_weights=weights, hits=hits, **numbers)


PHOTOGRAPHS = Calibration(
    text_weights=(0.69, 0.0, 0.67, 0.47, -0.77, -2.98, -1.29),
    text_offset=-0.33,
    image_slope=5.8,
    image_middle=0.55,
    threshold=0.272,
    hits=HitCalibration(weights=(0.8, 0.45, 0.0), offset=-0.8, threshold=0.4),
)
"""The calibration for CLIP models of photographs.

The weights were fitted on public research vectors (`scripts/evaluate_match.py --fit`), on libraries of one to a
thousand pictures with and without what is asked for, and evaluated on held-out words and pictures. The evidence is
dimensionless, so that the weights carry over to other models of this kind. The cosine similarity has a weight of 0,
because its scale differs from model to model.
"""


def probability(logit: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the logistic function of a logit; it does not overflow."""
    return 1 / (1 + np.exp(-np.clip(logit, -50, 50)))


def fit_logistic(
    evidence: ArrayLike, present: ArrayLike, weight: ArrayLike | None = None, penalty: float = 1.0
) -> NDArray[np.float64]:
    """Fit a logistic regression by Newton's method; return its weights, (e + 1,) float64, the intercept last.

    evidence: (m, e) float64.
    present: (m,) bool, the labels.
    weight: (m,) float64, the sample weights; None for equal ones.
    penalty: L2 penalty on the weights of the standardised evidence; the intercept is not penalised.
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
