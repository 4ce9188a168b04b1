"""The bridge: a linear map from one space to another, fitted on pictures embedded in both."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from clipkit.atomic import atomic_write, clear_unfinished
from clipkit.errors import ClipkitError
from clipkit.generation.ridge import ridge_regression
from clipkit.vectors.unit import unit

FEWEST = 50
"""Pictures without which no bridge is fitted."""

HELD_OUT = 0.2
"""The share of the pictures that the scores come from."""

PENALTIES = 10.0 ** np.arange(-8, 3)
"""Candidates for ridge's penalty, in units of the mean variance of the inputs' coordinates."""


@dataclass(frozen=True)
class BridgeReport:
    """How good a bridge is, on the pictures held out of the fit.

    `pictures` in all, `held_out` of them. `cosine`: mean between the bridged and the true embedding. `recall_1` and
    `recall_10`: how often a picture's true embedding is the nearest, or among the ten nearest, of all `pictures` to its
    bridged one. `norm_error`: mean relative error of the norms. `penalty`: ridge's.
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
    """y = scale * (x @ weight + bias), embeddings not normalised: x float32 (n, d) of `source`, y (n, e) of `target`.

    `target` is a space's id, or the folder of a decoder that names no space.
    """

    source: str
    target: str
    weight: np.ndarray
    bias: np.ndarray
    scale: float
    report: BridgeReport

    def cross(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings of the source space, float32 (n, d), not normalised, as those of the target, (n, e)."""
        return ((embeddings @ self.weight + self.bias) * self.scale).astype(np.float32)

    def to_json(self) -> dict:
        """Plain data, as `clipkit bridge list --json` prints it."""
        return {"source": self.source, "target": self.target, **asdict(self.report)}


def fit(source: str, target: str, x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Bridge:
    """Ridge regression (Hoerl and Kennard, 1970) from embeddings x (n, d) to y (n, e), both float32, not normalised.

    The penalty is the one with the least generalised cross-validation error (Golub, Heath and Wahba, 1979) on the
    pictures that are not held out; the map itself is then fitted on all. Ridge makes what it predicts too short;
    `scale` gives it the norms of the held-out pictures back. Raises ClipkitError for fewer than 50 pictures.
    """
    n = len(x)
    if n < FEWEST:
        raise ClipkitError(f"a bridge needs at least {FEWEST} pictures in both spaces, and there are {n}")
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
    # How many embeddings are nearer than the picture's own.
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
        freedom = len(x) - 1 - (1 - kept).sum()  # the mean takes one degree
        errors.append((outside + float(((kept[:, None] * inside) ** 2).sum())) / max(freedom, 1e-9) ** 2)
    return float(PENALTIES[int(np.argmin(errors))])


# --- on disk: one safetensors file a bridge, in the library's folder `bridges` ---


def file_of(folder: Path, source: str, target: str) -> Path:
    """Where the bridge between two spaces lies in the folder of a library's bridges."""
    return folder / f"{quote(source, safe='-_.')}--{quote(target, safe='-_.')}.safetensors"


def save(bridge: Bridge, folder: Path) -> Path:
    """Writes it whole or not at all; returns where. Raises ClipkitError if the disk will not have it."""
    from safetensors.numpy import save as as_bytes

    path = file_of(folder, bridge.source, bridge.target)
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
    """A bridge from its file. Raises ClipkitError if it is torn."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["clipkit"])
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        source, target, scale = (facts.pop(key) for key in ("source", "target", "scale"))
        bridge = Bridge(source, target, weight, bias, float(scale), BridgeReport(**facts))
        if weight.ndim != 2 or bias.shape != weight.shape[1:]:
            raise ValueError("the shapes do not fit")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ClipkitError(f"the bridge {path} is torn: fit it again with `clipkit bridge fit`") from error
    return bridge


def listed(folder: Path) -> list[Bridge]:
    """All bridges of a library, by name. Raises ClipkitError for a torn one."""
    return [load(path) for path in sorted(folder.glob("*.safetensors"))]
