"""Ridge regression between embeddings, for bridges and the linear prior."""

from __future__ import annotations

import numpy as np


def ridge_regression(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit y (n, e) by x @ weight + bias, with x (n, d) (Hoerl and Kennard, 1970); return weight (d, e) and bias (e,).

    Computes in float64. `penalty` is in units of the mean variance of x's coordinates; the bias is not penalised.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    covariance = x.T @ x / len(x)
    scale = max(float(covariance.diagonal().mean()), 1e-12)
    covariance[np.diag_indices_from(covariance)] += penalty * scale
    weight = np.linalg.solve(covariance, x.T @ y / len(x))
    return weight, mean_y - mean_x @ weight
