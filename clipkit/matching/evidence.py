"""Evidence that the library has what a text asks for: seven numbers, computed from its best hits.

All scores are (picture - mean picture) · (text - mean text) / |text - mean text|, in units of `sigma`, the standard
deviation of such scores over pictures and concepts. Centring removes the modality gap (Liang et al., NeurIPS 2022), and
the unit makes models comparable. The centred picture is not normalised: one near the mean shows nothing clearly and
should score low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import PARAPHRASE, ConceptBank, Floats
from clipkit.matching.statistics import BEST, PRIOR_PICTURES, LibraryStatistics

RIVALS = 20
"""Number of concepts that describe a picture."""
NEAR = 5
"""Number of concepts near the query in meaning."""
SAVED = ("covariance", "sigma", "whitened_sigma", "trend", "level", "precision", "left")
RIDGE = 0.004
"""Ridge penalty of the expected score, as a fraction of the number of concepts."""


@dataclass(frozen=True)
class Reference:
    """What queries are compared with in a library.

    mean, covariance: of the pictures, (d,) and (d, d).
    sigma: the unit of scores.
    whitened_sigma: the unit of scores along whitened directions, see `ConceptBank`.
    trend, level: (BEST, d) and (BEST,). The mean of the k best scores of a text direction t is expected to be
        level[k - 1] + trend[k - 1] · t, by ridge regression over the concepts of the bank (Hoerl & Kennard, 1970).
    precision, left: (d, d) and (c, BEST), inverse moment matrix and residuals of that regression, which allow concepts
        to be left out afterwards.
    """

    bank: ConceptBank
    count: int
    mean: Floats
    covariance: Floats
    sigma: float
    whitened_sigma: float
    trend: Floats
    level: Floats
    precision: Floats
    left: Floats

    @classmethod
    def of(cls, statistics: LibraryStatistics, bank: ConceptBank) -> Reference:
        """Compute the reference from a library's statistics."""
        mean, covariance = statistics.mean, statistics.covariance()
        # About 300 concepts suffice to estimate the spread to a percent.
        step = max(1, len(bank.directions) // 300)
        some = bank.directions[::step]
        sigma = _spread(some, covariance)
        whitened_sigma = _spread(some @ bank.whitening / bank.lengths[::step, None], covariance)
        kept = max(1, min(BEST, statistics.count))
        best = statistics.best[:, :kept] if statistics.count else np.zeros((len(bank.directions), 1), np.float32)
        scores = (best - (bank.directions @ mean)[:, None]) / sigma
        reached = np.cumsum(scores, axis=1) / np.arange(1, kept + 1, dtype=np.float32)
        level = reached.mean(axis=0)
        texts = bank.directions
        gram = texts.T @ texts + RIDGE * len(texts) * np.eye(texts.shape[1], dtype=np.float32)
        precision = np.linalg.inv(gram).astype(np.float32)
        trend = (precision @ (texts.T @ (reached - level))).T
        left = np.asarray(reached - level - texts @ trend.T, np.float32)
        return cls(
            bank=bank,
            count=statistics.count,
            mean=mean,
            covariance=covariance,
            sigma=sigma,
            whitened_sigma=whitened_sigma,
            trend=trend.astype(np.float32),
            level=level,
            precision=precision,
            left=left,
        )

    def whitened(self, vectors: Floats) -> Floats:
        """Return pictures, centred, whitened, and in units of their scores' spread: (k, d) to (k, d)."""
        return np.asarray((vectors - self.mean) @ self.bank.whitening / self.whitened_sigma, np.float32)

    def described(self, vectors: Floats) -> Floats:
        """Return how well each concept describes each picture, along whitened directions: (k, d) to (k, c)."""
        return np.asarray(self.whitened(vectors) @ self.bank.directions.T / self.bank.lengths, np.float32)

    def arrays(self) -> dict[str, NDArray]:
        """Return the arrays that are expensive to compute, by name, for saving."""
        return {name: np.asarray(getattr(self, name)) for name in SAVED}

    @classmethod
    def restored(cls, statistics: LibraryStatistics, bank: ConceptBank, saved: Mapping[str, NDArray]) -> Reference:
        """Restore the reference from the statistics and the saved `arrays`."""
        return cls(
            bank=bank,
            count=statistics.count,
            mean=statistics.mean,
            covariance=saved["covariance"],
            sigma=float(saved["sigma"]),
            whitened_sigma=float(saved["whitened_sigma"]),
            trend=saved["trend"],
            level=saved["level"],
            precision=saved["precision"],
            left=saved["left"],
        )

    def likely_score(self, direction: Floats, closeness: Floats, best: int) -> float:
        """Return the expected mean of the `best` highest scores of a text in this library.

        direction: (d,) float32, the centred text.
        closeness: (c,), the cosine similarity of each concept to it.

        Paraphrases of the text are left out of the regression (by the leave-one-out formula of ridge regression);
        otherwise a word of the bank would be compared with itself.
        """
        trend = self.trend[best - 1]
        same = np.flatnonzero(closeness >= PARAPHRASE)
        if len(same):
            texts = self.bank.directions[same]
            pull = texts @ self.precision
            held = np.eye(len(same), dtype=np.float32) * 1.0001 - pull @ texts.T
            trend = trend - pull.T @ np.linalg.solve(held, self.left[same, best - 1])
        return float(self.level[best - 1] + trend @ direction)

    def pictures(self, vectors: Floats) -> Floats:
        """Return centred pictures in units of `sigma`, (k, d) float32."""
        return (vectors - self.mean) / self.sigma


def text_evidence(
    reference: Reference, query: Floats, direction: Floats, hits: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the evidence for each hit, and for the query.

    query: (d,) float32 of unit length.
    direction: (d,) float32 of unit length, the centred query.
    hits: (k, d) float32 unit image vectors, k at least 1, including the library's best for this query.

    `own` (k, 2) float64, for each hit:

    - Margin: its score minus the mean score of the concepts that describe it best, without paraphrases of the query
      (the softmax over concepts of MCM as a difference: Ming et al., "Delving into Out-of-Distribution Detection with
      Vision-Language Representations", NeurIPS 2022).
    - Cosine similarity, which is meaningful for the model that the weights were fitted to.

    `evidence` (7,) float64, the row of the best hit, followed by:

    - Lead: the mean score of the four best hits minus its expectation for such a text in this library, estimated from
      the bank's concepts (the query-bank correction of Bogolin et al., "Cross Modal Retrieval with Querybank
      Normalisation", CVPR 2022, by meaning rather than by neighbours). It also corrects for the size of the library.
    - Margin of the four best over the concepts nearest to the query in meaning: a picture of a thing in a setting is
      described best by the thing, so a query for a setting has to be compared with other settings.
    - Rank: log10 of the share of concepts that describe the mean of the four best better than the query does. What
      they show incidentally differs and averages out; what they were found for does not.
    - Log of the standard deviation of the query's scores over the library, in `sigma`: a text whose scores vary more
      reaches high scores by chance.
    - log10 of the number of pictures, at most 5: the best of many scores higher by chance.
    """
    bank = reference.bank
    pictures = reference.pictures(hits)
    scores = pictures @ direction
    described = pictures @ bank.directions.T
    closeness = bank.directions @ direction
    rivals = np.flatnonzero(closeness < PARAPHRASE)
    near = rivals[np.argsort(-closeness[rivals], kind="stable")[:NEAR]]
    margins = scores - mean_of_rivals(described, closeness)
    own = np.column_stack([margins, hits @ query]).astype(np.float64)

    best = np.argsort(-scores, kind="stable")[: len(reference.level)]
    score = scores[best].mean()
    ahead = np.count_nonzero(described[best].mean(axis=0)[rivals] > score)
    # With few pictures the variance is poorly known and is shrunk to its typical value, 1.
    spread = max(float(direction @ reference.covariance @ direction), 0.0) / reference.sigma**2
    spread = (spread * reference.count + PRIOR_PICTURES) / (reference.count + PRIOR_PICTURES)
    common = [
        score - reference.likely_score(direction, closeness, len(best)),
        score - _mean_of_best(described[best][:, near], NEAR).mean(),
        np.log10((ahead + 1) / (len(rivals) + 1)),
        np.log(spread) / 2,
        min(np.log10(reference.count), 5.0),
    ]
    return own, np.array([*own[best[0]], *common], np.float64)


def mean_of_rivals(described: Floats, closeness: Floats) -> Floats:
    """Return the mean score of the concepts that describe each hit best, paraphrases of the text left out: (k,).

    described: (k, c), how well each concept describes each hit. closeness: (c,), its cosine with the text.
    """
    same = np.flatnonzero(closeness >= PARAPHRASE)
    rivals = len(closeness) - len(same)
    if not rivals:
        return np.zeros(len(described), np.float32)
    scores = described.copy()
    scores[:, same] = -np.inf
    return _mean_of_best(scores, int(np.clip(rivals // 20, 1, RIVALS)))


def _mean_of_best(scores: Floats, number: int) -> Floats:
    """Return the mean of each row's `number` highest scores, of all if there are fewer, 0 if there are none."""
    number = min(number, scores.shape[1])
    if not number:
        return np.zeros(len(scores), np.float32)
    return np.partition(scores, -number, axis=1)[:, -number:].mean(axis=1)


def _spread(directions: Floats, covariance: Floats) -> float:
    """Return the standard deviation of the scores of pictures along these directions, pooled; never 0."""
    variance = np.einsum("cd,cd->", directions @ covariance, directions) / len(directions)
    return float(np.sqrt(max(variance, 1e-12)))
