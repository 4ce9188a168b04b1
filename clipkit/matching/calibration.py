"""From evidence to probabilities: logistic models with one set of weights per kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class HitCalibration:
    """The weights of the probability that one hit shows what a text asks for.

    weights: of the three numbers of `hit_evidence`: margin, distance to the best hit, cosine similarity.
    offset: log odds of a hit whose numbers are all 0.
    threshold: the probability from which a hit is a match.
    parts: the weight of a query's weakest part against the whole query, see `with_parts`.
    """

    weights: tuple[float, float, float]
    offset: float
    threshold: float
    parts: float = 0.0

    def logits(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log odds from the evidence of `hit_evidence`: (..., 3) to (...)."""
        return evidence @ np.array(self.weights) + self.offset

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> HitCalibration:
        """Restore from plain data. Raises TypeError, ValueError or KeyError for anything else."""
        margin, behind, cosine = (float(weight) for weight in fields["weights"])
        offset, threshold = float(fields["offset"]), float(fields["threshold"])
        parts = float(fields.get("parts", 0.0))
        if not np.isfinite([margin, behind, cosine, offset, threshold]).all() or not 0 <= parts <= 1:
            raise ValueError("a calibration of hits has finite numbers, and a weight of parts from 0 to 1")
        return cls((margin, behind, cosine), offset, threshold, parts)


@dataclass(frozen=True)
class Curve:
    """A logistic function of one number, whose log odds are slope * (number - middle)."""

    slope: float
    middle: float

    def __call__(self, number: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log odds."""
        return self.slope * (number - self.middle)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Curve:
        """Restore from plain data. Raises TypeError, ValueError or KeyError for anything else."""
        slope, middle = float(fields["slope"]), float(fields["middle"])
        if not np.isfinite([slope, middle]).all():
            raise ValueError("a logistic function has finite numbers")
        return cls(slope, middle)


@dataclass(frozen=True)
class PictureCalibration:
    """The weights of queries by picture.

    answer: of the best hit's `concept_overlap`, that the library shows what the query picture shows.
    similar: of each hit's `concept_overlap`, that it shows the same kind of thing.
    copy: of each hit's `copy_distance`, that it is the same picture or an edited copy.
    """

    answer: Curve
    similar: Curve
    copy: Curve

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PictureCalibration:
        """Restore from plain data. Raises TypeError, ValueError or KeyError for anything else."""
        return cls(*(Curve.from_json(fields[name]) for name in ("answer", "similar", "copy")))


@dataclass(frozen=True)
class Calibration:
    """The weights and thresholds of the match decision.

    text_weights: one weight for each of the seven numbers of `text_evidence`.
    text_offset: intercept of the same logistic model.
    threshold: confidence from which the library has what is asked for; chosen so that at most one in ten queries that
        a library can answer is rejected.
    hits: the weights of single hits of a text query, and the threshold of single hits of any query.
    pictures: the weights of queries by picture.
    """

    text_weights: tuple[float, ...]
    text_offset: float
    threshold: float
    hits: HitCalibration
    pictures: PictureCalibration

    def text_logit(self, evidence: NDArray[np.float64]) -> float:
        """Return the log odds that the library has what a text asks for, from the evidence of `text_evidence`."""
        return float(evidence @ np.array(self.text_weights)) + self.text_offset

    def behind(self, own: NDArray[np.float64], evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log odds of each hit relative to the best one: `own` (k, 2), `evidence` (7,) -> (k,)."""
        return (own - evidence[: own.shape[1]]) @ np.array(self.text_weights[: own.shape[1]])

    def cautious(self, margin: float = 0.5) -> Calibration:
        """Return the same weights with thresholds raised by a margin in log odds, for models never calibrated."""
        hits = replace(self.hits, threshold=_raised(self.hits.threshold, margin))
        return replace(self, threshold=_raised(self.threshold, margin), hits=hits)

    def to_json(self) -> dict:
        """Return plain data for a model's configuration."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping) -> Calibration:
        """Restore from the data of `to_json`. Raises TypeError, ValueError or KeyError for anything else.

        Weights that it lacks, of single hits and of pictures, are those for photographs.
        """
        offset, threshold = float(fields["text_offset"]), float(fields["threshold"])
        weights = tuple(float(weight) for weight in fields["text_weights"])
        if len(weights) != len(PHOTOGRAPHS.text_weights) or not np.isfinite([*weights, offset, threshold]).all():
            raise ValueError(f"a calibration has {len(PHOTOGRAPHS.text_weights)} text weights, and finite numbers")
        return cls(
            text_weights=weights,
            text_offset=offset,
            threshold=threshold,
            hits=HitCalibration.from_json(fields["hits"]) if "hits" in fields else PHOTOGRAPHS.hits,
            pictures=PictureCalibration.from_json(fields["pictures"]) if "pictures" in fields else PHOTOGRAPHS.pictures,
        )


PHOTOGRAPHS = Calibration(
    text_weights=(0.69, 0.0, 0.67, 0.47, -0.77, -2.98, -1.29),
    text_offset=-0.33,
    threshold=0.272,
    hits=HitCalibration(weights=(0.8, 0.45, 0.0), offset=-0.8, threshold=0.4, parts=0.25),
    pictures=PictureCalibration(answer=Curve(5.0, 0.71), similar=Curve(4.7, 0.86), copy=Curve(-8.4, -1.1)),
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


def _raised(threshold: float, margin: float) -> float:
    """Return a probability whose log odds are higher by a margin."""
    return float(probability(np.log(threshold / (1 - threshold)) + margin))


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
