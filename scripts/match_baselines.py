"""Baselines for the match decision.

Each is a function of unit float32 vectors, library (n, d), bank (c, d) and query (d,), and returns a score that is
higher the more likely it is that the library has what the query asks for. The package uses none of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Method = Callable[[Floats, Floats, Floats], float]
CLOSE = 0.6
"""Centred cosine similarity from which a concept is a paraphrase of the query."""


def unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def centre(library: Floats, bank: Floats, query: Floats) -> tuple[Floats, Floats, Floats]:
    """Return centred, normalised pictures, bank and query."""
    return unit(library - library.mean(0)), unit(bank - bank.mean(0)), unit(query - bank.mean(0))


def mean_of_best(scores: Floats, number: int) -> Floats:
    return np.partition(scores, -number, axis=-1)[..., -number:].mean(-1)


def raw(library: Floats, bank: Floats, query: Floats) -> float:
    return (library @ query).max()


def z_score(library: Floats, bank: Floats, query: Floats) -> float:
    scores = library @ query
    return (scores.max() - scores.mean()) / scores.std()


def centred(library: Floats, bank: Floats, query: Floats) -> float:
    pictures, _, direction = centre(library, bank, query)
    return (pictures @ direction).max()


def pareto_tail(library: Floats, bank: Floats, query: Floats) -> float:
    """Return how far the best score lies beyond a generalised Pareto distribution fitted to the next 10% by moments."""
    scores = np.sort(library @ query)[::-1]
    tail = max(5, len(scores) // 10)
    beyond = scores[1:tail] - scores[tail]
    ratio = beyond.mean() ** 2 / beyond.var()
    shape, scale = (1 - ratio) / 2, beyond.mean() * (1 + ratio) / 2
    reach = scores[0] - scores[tail]
    if abs(shape) < 1e-3:
        return reach / scale
    inside = 1 + shape * reach / scale
    # With a negative shape the support is bounded; scores beyond it are ranked by their distance.
    return np.log(inside) / shape if inside > 1e-6 else 14 / abs(shape) + reach / scale


def weibull_tail(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the cumulative probability of the best score under a Weibull distribution fitted to the next 5%."""
    scores = np.sort(library @ query)[::-1]
    tail = np.log(scores[1 : max(6, len(scores) // 20)] - scores[len(scores) // 2] + 1e-6)
    shape = np.pi / np.sqrt(6) / tail.std()
    return shape * (np.log(scores[0] - scores[len(scores) // 2]) - tail.mean())


def concept_softmax(library: Floats, bank: Floats, query: Floats) -> float:
    scores, others = library @ query, library @ bank[unit(bank - bank.mean(0)) @ unit(query - bank.mean(0)) < CLOSE].T
    top = np.argsort(-scores)[:20]
    lead = 100 * (others[top] - scores[top, None])
    return -np.log1p(np.exp(lead).sum(1)).min()


def concept_rank(library: Floats, bank: Floats, query: Floats) -> float:
    pictures, others, direction = centre(library, bank, query)
    best = pictures[np.argmax(pictures @ direction)]
    return -np.log1p((others[others @ direction < CLOSE] @ best > direction @ best).sum())


def cosine_margin(library: Floats, bank: Floats, query: Floats) -> float:
    pictures, others, direction = centre(library, bank, query)
    best = pictures[np.argmax(pictures @ direction)]
    return best @ direction - mean_of_best(others[others @ direction < CLOSE] @ best, 10)


def csls(library: Floats, bank: Floats, query: Floats) -> float:
    pictures, others, direction = centre(library, bank, query)
    scores = pictures @ direction
    top = np.argsort(-scores)[:30]
    crowd = mean_of_best(pictures[top] @ others[others @ direction < CLOSE].T, 10)
    return (2 * scores[top] - crowd).max() - mean_of_best(scores, 10)


def query_bank(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the best picture's inverted softmax over a bank of other queries."""
    pictures, others, direction = centre(library, bank, query)
    scores = pictures @ direction
    top = np.argsort(-scores)[:30]
    crowd = np.exp(30 * (pictures[top] @ others[others @ direction < CLOSE].T)).sum(1)
    return (30 * scores[top] - np.log(crowd)).max()


def mutual_proximity(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the probability that other words and other pictures are farther, with normal marginals."""
    pictures, others, direction = centre(library, bank, query)
    scores = pictures @ direction
    best = np.argmax(scores)
    words = others[others @ direction < CLOSE] @ pictures[best]
    z = (scores[best] - scores.mean()) / scores.std(), (scores[best] - words.mean()) / words.std()
    return -np.logaddexp(-1.7 * z[0], -1.7 * z[1])


def ridge_to_pictures(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the best cosine of the text, mapped by ridge regression from concepts to their three best pictures."""
    pictures, others, direction = centre(library, bank, query)
    nearest = np.argpartition(-(others @ pictures.T), 3, axis=1)[:, :3]
    shown = unit(pictures[nearest].mean(1))
    mapped = np.linalg.solve(others.T @ others + 5 * np.eye(len(direction)), others.T @ shown).T @ direction
    return (pictures @ unit(mapped)).max()


def coherence(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the mean cosine similarity among the eight best pictures."""
    pictures, _, direction = centre(library, bank, query)
    best = pictures[np.argsort(-(pictures @ direction))[:8]]
    return (best @ best.T)[np.triu_indices(len(best), 1)].mean() if len(best) > 1 else 0.0


def all_but_the_top(library: Floats, bank: Floats, query: Floats) -> float:
    """Remove the pictures' three leading principal components from both sides; return the best cosine."""
    pictures, texts, shared = library - library.mean(0), query - bank.mean(0), library - library.mean(0)
    leading = np.linalg.eigh(shared.T @ shared)[1][:, -3:]
    return (unit(pictures - pictures @ leading @ leading.T) @ unit(texts - leading @ (leading.T @ texts))).max()


def whitened(library: Floats, bank: Floats, query: Floats) -> float:
    """Whiten both sides by the pictures' covariance, shrunk half-way to the identity; return the best cosine."""
    pictures = library - library.mean(0)
    values, vectors = np.linalg.eigh(pictures.T @ pictures / len(pictures))
    scale = vectors / np.sqrt(np.maximum(values, 0) + values.mean())
    return (unit(pictures @ scale) @ unit((query - bank.mean(0)) @ scale)).max()


def text_whitened(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the best score along Fisher's direction between query and bank, with the bank's covariance shrunk."""
    pictures, others, direction = centre(library, bank, query)
    covariance = others.T @ others / len(others) * len(direction)
    fisher = np.linalg.solve(covariance + 3 * np.eye(len(direction)), direction)
    return (pictures @ fisher).max() / np.sqrt(direction @ fisher)


def pursuit_residual(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the query's component of the best picture that five concepts leave unexplained."""
    pictures, others, direction = centre(library, bank, query)
    others = others[others @ direction < CLOSE]
    best = pictures[np.argmax(pictures @ direction)]
    left, chosen = best, []
    for _ in range(min(5, len(others))):
        chosen.append(int(np.argmax(others @ left)))
        atoms = others[chosen]
        left = best - np.linalg.solve(atoms @ atoms.T + 1e-3 * np.eye(len(chosen)), atoms @ best) @ atoms
    return left @ direction


def near_concepts(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the mean of the four best scores, minus that of concepts near the query in meaning."""
    pictures, others, direction = centre(library, bank, query)
    near = others @ direction
    weights = np.exp(10 * (near - near.max())) * (near < 0.95)
    kept = min(4, len(pictures))
    return mean_of_best(pictures @ direction, kept) - weights @ mean_of_best(others @ pictures.T, kept) / weights.sum()


def margin(library: Floats, bank: Floats, query: Floats) -> float:
    """Return the first of clipkit's seven numbers: the margin over twenty rivals, without normalising pictures."""
    pictures, (_, others, direction) = library - library.mean(0), centre(library, bank, query)
    best = pictures[np.argmax(pictures @ direction)]
    rivals = others[others @ direction < CLOSE] @ best
    return best @ direction - mean_of_best(rivals, int(np.clip(len(rivals) // 20, 1, 20)))


def rank_of_the_mean(library: Floats, bank: Floats, query: Floats) -> float:
    """Return minus the log of the number of concepts that describe the mean of the four best better than the query."""
    pictures, (_, others, direction) = library - library.mean(0), centre(library, bank, query)
    mean = pictures[np.argsort(-(pictures @ direction))[:4]].mean(0)
    return -np.log1p((others[others @ direction < CLOSE] @ mean > direction @ mean).sum())


METHODS: dict[str, tuple[str, Method]] = {
    "top-1 cosine": ("Radford et al. 2021 (CLIP)", raw),
    "z-score over the library": ("standard score", z_score),
    "both sides centred": ("Liang et al. 2022 (modality gap)", centred),
    "Pareto tail": ("Pickands 1975; Balkema & de Haan 1974", pareto_tail),
    "Weibull tail": ("Scheirer et al. 2011 (meta-recognition)", weibull_tail),
    "softmax over concepts": ("Ming et al. 2022 (MCM)", concept_softmax),
    "rank among concepts": ("Ming et al. 2022, by rank", concept_rank),
    "margin, normalised pictures": ("Ming et al. 2022, as a difference", cosine_margin),
    "CSLS": ("Conneau et al. 2018", csls),
    "inverted softmax, query bank": ("Smith et al. 2017; Bogolin et al. 2022", query_bank),
    "mutual proximity": ("Schnitzer et al. 2012", mutual_proximity),
    "ridge text to picture": ("Hoerl & Kennard 1970", ridge_to_pictures),
    "coherence of the best": ("Cronen-Townsend et al. 2002 (clarity)", coherence),
    "all but the top": ("Mu & Viswanath 2018", all_but_the_top),
    "whitening, shrunk": ("Ledoit & Wolf 2004", whitened),
    "text-side whitening": ("Fisher 1936 (LDA)", text_whitened),
    "pursuit residual": ("Bhalla et al. 2024 (SpLiCE)", pursuit_residual),
    "over near concepts": ("Bogolin et al. 2022, by meaning", near_concepts),
    "margin": ("clipkit, one number", margin),
    "rank for the mean of the best": ("clipkit, one number", rank_of_the_mean),
}
