"""A bridge: a linear map from one model's embeddings to another's, fitted on pictures embedded by both."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from clipkit.atomic import atomic_write, clear_unfinished
from clipkit.errors import ClipkitError
from clipkit.generation.ridge import ridge_regression
from clipkit.vectors.unit import unit

MIN_PICTURES = 50
"""Pictures needed to fit a bridge."""

HELD_OUT = 0.2
"""Share of the pictures held out for the scores."""

PENALTIES = 10.0 ** np.arange(-8, 3)
"""Candidate ridge penalties, in units of the mean variance of the input coordinates."""


@dataclass(frozen=True)
class BridgeReport:
    """Scores of a bridge on pictures held out of the fit.

    `pictures`: number in all, `held_out` of them held out.
    `cosine`: mean cosine similarity of the bridged and the true embedding.
    `recall_1`, `recall_10`: recall@k of the true embedding among those of all `pictures`, by the bridged one.
    `norm_error`: mean relative error of the norms.
    `penalty`: the ridge penalty.
    """

    pictures: int
    held_out: int
    cosine: float
    recall_1: float
    recall_10: float
    norm_error: float
    penalty: float


@dataclass(frozen=True)
class Bridge:
    """The map y = scale * (x @ weight + bias) from x (n, d) of the model `source` to y (n, e) of `target`.

    Embeddings are float32, not normalised. `target` is a model's id, or the folder of a decoder that does not name one.
    """

    source: str
    target: str
    weight: np.ndarray
    bias: np.ndarray
    scale: float
    report: BridgeReport

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Map embeddings of the source, (n, d), to those of the target, float32 (n, e)."""
        return ((embeddings @ self.weight + self.bias) * self.scale).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as printed by `clipkit bridge list --json`."""
        return {"source": self.source, "target": self.target, **asdict(self.report)}


def fit(source: str, target: str, x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Bridge:
    """Fit a bridge by ridge regression (Hoerl and Kennard, 1970) from embeddings x (n, d) to y (n, e), not normalised.

    Chooses the penalty by generalised cross-validation (Golub, Heath and Wahba, 1979) on the pictures that are not held
    out, then fits the map on all of them. Ridge shrinks its predictions; `scale` restores the norms of the held-out
    pictures. Raises ClipkitError for fewer than `MIN_PICTURES` pictures.
    """
    n = len(x)
    if n < MIN_PICTURES:
        raise ClipkitError(f"a bridge needs at least {MIN_PICTURES} pictures embedded by both models; there are {n}")
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    order = np.random.default_rng(seed).permutation(n)
    held, used = order[: max(1, round(HELD_OUT * n))], order[max(1, round(HELD_OUT * n)) :]
    penalty = _best_penalty(x[used], y[used])
    weight, bias = ridge_regression(x[used], y[used], penalty)
    predicted = x[held] @ weight + bias
    true_norms, norms = np.linalg.norm(y[held], axis=1), np.linalg.norm(predicted, axis=1)
    scale = float(true_norms @ norms / max(norms @ norms, 1e-12))
    cosines = (unit(predicted, np.float64) * unit(y[held], np.float64)).sum(1)
    scores = unit(predicted, np.float64) @ unit(y, np.float64).T
    # Number of embeddings nearer than the picture's own.
    nearer = (scores > scores[np.arange(len(held)), held][:, None] + 1e-12).sum(1)
    report = BridgeReport(
        pictures=n,
        held_out=len(held),
        cosine=float(cosines.mean()),
        recall_1=float((nearer < 1).mean()),
        recall_10=float((nearer < 10).mean()),
        norm_error=float(np.abs(scale * norms / np.maximum(true_norms, 1e-12) - 1).mean()),
        penalty=float(penalty),
    )
    weight, bias = ridge_regression(x, y, penalty)
    return Bridge(source, target, weight.astype(np.float32), bias.astype(np.float32), scale, report)


def _best_penalty(x: np.ndarray, y: np.ndarray) -> float:
    centred = y - y.mean(0)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    inside = u.T @ centred
    outside = max(0.0, float((centred**2).sum() - (inside**2).sum()))
    errors = []
    for penalty in PENALTIES:
        absolute = penalty * max(float((s**2).sum()) / x.shape[1], 1e-12)
        kept = absolute / (s**2 + absolute)
        freedom = len(x) - 1 - (1 - kept).sum()  # minus one for the mean
        errors.append((outside + float(((kept[:, None] * inside) ** 2).sum())) / max(freedom, 1e-9) ** 2)
    return float(PENALTIES[int(np.argmin(errors))])


# --- on disk: one safetensors file per bridge, in the library's folder `bridges` ---


def bridge_file(folder: Path, source: str, target: str) -> Path:
    """Return the file of the bridge between two models in a library's folder of bridges."""
    return folder / f"{quote(source, safe='-_.')}--{quote(target, safe='-_.')}.safetensors"


def save(bridge: Bridge, folder: Path) -> Path:
    """Write a bridge atomically and return its path. Raises ClipkitError if it cannot be written."""
    from safetensors.numpy import save as as_bytes

    path = bridge_file(folder, bridge.source, bridge.target)
    facts = {"source": bridge.source, "target": bridge.target, "scale": bridge.scale, **asdict(bridge.report)}
    tensors = {"weight": bridge.weight, "bias": bridge.bias}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_unfinished(folder)
        with atomic_write(path) as file:
            file.write(as_bytes(tensors, metadata={"clipkit": json.dumps(facts)}))
    except OSError as error:
        raise ClipkitError(f"cannot write the bridge {path}: {error}") from error
    return path


def load(path: Path) -> Bridge:
    """Load a bridge from its file. Raises ClipkitError if the file is corrupt."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["clipkit"])
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        source, target, scale = (facts.pop(key) for key in ("source", "target", "scale"))
        bridge = Bridge(source, target, weight, bias, float(scale), BridgeReport(**facts))
        if weight.ndim != 2 or bias.shape != weight.shape[1:]:
            raise ValueError("the shapes do not match")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ClipkitError(f"the bridge {path} is corrupt: fit it again with `clipkit bridge fit`") from error
    return bridge


def load_all(folder: Path) -> list[Bridge]:
    """Load all bridges of a library, sorted by file name. Raises ClipkitError for a corrupt file."""
    return [load(path) for path in sorted(folder.glob("*.safetensors"))]
