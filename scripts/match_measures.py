"""Measures of a decision: AUROC, calibration error, precision and recall."""

from __future__ import annotations

import numpy as np


def auroc(scores: np.ndarray, present: np.ndarray) -> float:
    """Return the chance that a present one scores higher than an absent one, ties counted half."""
    a, b = scores[present][:, None], scores[~present][None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def precision_at(scores: np.ndarray, right: np.ndarray, recall: float) -> float:
    """Return the precision of the best-scored that hold this share of the right ones."""
    found = np.cumsum(right[np.argsort(-scores, kind="stable")])
    number = int(np.searchsorted(found, recall * right.sum()))
    return float(found[number] / (number + 1))


def threshold_of(confidence: np.ndarray, present: np.ndarray) -> float:
    """Return the highest threshold that rejects at most one in ten of the present queries."""
    return float(np.quantile(confidence[present], 0.1))


def calibration_error(confidence: np.ndarray, present: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal width (Guo et al., ICML 2017)."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [confidence[place == b].sum() - present[place == b].sum() for b in range(bins)]
    return float(np.abs(parts).sum() / len(present))


def chance_error(confidence: np.ndarray, draws: int = 200) -> float:
    """Return the calibration error that exact confidences would show over so many answers."""
    rng = np.random.default_rng(0)
    return float(
        np.mean([calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(draws)])
    )


def report(name: str, confidence: np.ndarray, present: np.ndarray, refused: np.ndarray) -> None:
    """Print one line about answers: (m,) confidences, which are present, and which are refused."""
    print(
        f"{name:44s} AUROC {auroc(confidence, present):.3f}  "
        f"ECE {calibration_error(confidence, present):.3f} (by chance {chance_error(confidence):.3f})  "
        f"false reject {refused[present].mean():.2f}  false accept {(~refused[~present]).mean():.2f}"
    )


def report_hits(name: str, probabilities: np.ndarray, right: np.ndarray, matched: np.ndarray) -> None:
    """Print one line about single hits: (m,) probabilities, which are right, and which are matches."""
    at = "/".join(f"{precision_at(probabilities, right, recall):.2f}" for recall in (0.5, 0.7, 0.9))
    print(
        f"{name:44s} AUROC {auroc(probabilities, right):.3f}  ECE {calibration_error(probabilities, right):.3f}  "
        f"precision {right[matched].mean():.2f}  recall {matched[right].mean():.2f}  "
        f"precision at recall 0.5/0.7/0.9 {at}"
    )
