"""What speaks for the library having what a text asks for: seven numbers from its best hits.

All scores are (picture - mean picture) · (text - mean text) / |text - mean text|, in units of `sigma`, the spread of
such scores over pictures and concepts. Taking the means off removes the modality gap (Liang et al., NeurIPS 2022);
the unit makes spaces comparable; the picture is not brought to length one again, because a picture near the mean
shows nothing clearly, and should score low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import ConceptBank, Floats
from clipkit.matching.statistics import BEST, PRIOR_PICTURES, LibraryStatistics

PARAPHRASE = 0.6  # centred cosine from which another concept says the same as the query, and is no rival
RIVALS = 20  # so many concepts describe a picture
NEAR = 5  # so many concepts are near in meaning
SAVED = ("covariance", "sigma", "trend", "level", "precision", "left")
RIDGE = 0.004  # of the number of concepts: how strongly the expected score is smoothed


@dataclass(frozen=True)
class Reference:
    """What queries are compared with.

    `mean` (d,) and `covariance` (d, d) of the pictures; `sigma`, the unit of scores; `trend` (BEST, d) and `level`
    (BEST,): the mean of the k best scores that a text direction t reaches in this library is about
    level[k - 1] + trend[k - 1] · t, by ridge regression (Hoerl & Kennard 1970) over the concepts of the bank;
    `precision` (d, d) its inverse moment matrix and `left` (c, BEST) its residuals, to leave concepts out again.
    """

    bank: ConceptBank
    count: int
    mean: Floats
    covariance: Floats
    sigma: float
    trend: Floats
    level: Floats
    precision: Floats
    left: Floats

    @classmethod
    def of(cls, statistics: LibraryStatistics, bank: ConceptBank) -> Reference:
        """The reference of a library's present statistics."""
        mean, covariance = statistics.mean, statistics.covariance()
        # Every fifth concept or so gives the spread to a percent.
        some = bank.directions[:: max(1, len(bank.directions) // 300)]
        sigma = float(np.sqrt(max(np.einsum("cd,cd->", some @ covariance, some) / len(some), 1e-12)))
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
        return cls(bank, statistics.count, mean, covariance, sigma, trend.astype(np.float32), level, precision, left)

    def arrays(self) -> dict[str, NDArray]:
        """What is costly to compute, by name, to be saved."""
        return {name: np.asarray(getattr(self, name)) for name in SAVED}

    @classmethod
    def restored(cls, statistics: LibraryStatistics, bank: ConceptBank, saved: Mapping[str, NDArray]) -> Reference:
        """The reference of statistics and of its own saved `arrays`."""
        covariance, sigma, trend, level, precision, left = (saved[name] for name in SAVED)
        return cls(bank, statistics.count, statistics.mean, covariance, float(sigma), trend, level, precision, left)

    def likely_score(self, direction: Floats, best: int) -> float:
        """Mean of the `best` highest scores that a text like this reaches here, whether or not it is in the bank.

        Concepts that say the same are left out of the regression (the leave-one-out formula of ridge regression):
        else a word of the bank would be compared with itself.
        """
        trend = self.trend[best - 1]
        same = np.flatnonzero(self.bank.directions @ direction >= PARAPHRASE)
        if len(same):
            texts = self.bank.directions[same]
            pull = texts @ self.precision
            held = np.eye(len(same), dtype=np.float32) * 1.0001 - pull @ texts.T
            trend = trend - pull.T @ np.linalg.solve(held, self.left[same, best - 1])
        return float(self.level[best - 1] + trend @ direction)

    def pictures(self, vectors: Floats) -> Floats:
        """Pictures without what all of them share, in units of `sigma`: (k, d) float32."""
        return (vectors - self.mean) / self.sigma


def text_evidence(
    reference: Reference, query: Floats, direction: Floats, hits: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What speaks for each hit, and for the query.

    query: (d,) float32 of unit length. direction: (d,) float32 of unit length, the query without the mean text. hits:
    (k, d) float32 unit image vectors, k at least 1, that include the best of the library for this query.
    Returns `own` (k, 2) float64, what each hit says for itself:

    - its margin: its score less the mean score of the concepts that describe it best, close paraphrases of the query
      left out (the softmax over concepts of MCM, Ming et al., "Delving into Out-of-Distribution Detection with
      Vision-Language Representations", NeurIPS 2022, as a difference);
    - its cosine similarity, which means something in a space that the weights were fitted for.

    And `evidence` (7,) float64: the row of the hit with the best score, then

    - the mean score of the four best hits over what such a text reaches in this library, as the bank's concepts
      tell (the query-bank correction of Bogolin et al., "Cross Modal Retrieval with Querybank Normalisation",
      CVPR 2022, by meaning instead of by neighbours); it also corrects for the size of the library;
    - the margin of the four best over the concepts that are nearest to the query in meaning: a picture of a thing in a
      setting is described best by the thing, so what asks for the setting must be compared with other settings;
    - the logarithm (base 10) of the share of concepts that describe the mean of the four best better than the query
      does: what they show by the way differs and goes under in the mean, what they were found for does not;
    - the logarithm of the spread of the query's scores over the whole library, in `sigma`: words that vary much
      over all pictures reach high scores by chance;
    - the logarithm (base 10) of the number of pictures, at most 5: the best of many scores higher by chance.
    """
    bank = reference.bank
    pictures = reference.pictures(hits)
    scores = pictures @ direction
    described = pictures @ bank.directions.T
    closeness = bank.directions @ direction
    rivals = np.flatnonzero(closeness < PARAPHRASE)
    near = rivals[np.argsort(-closeness[rivals], kind="stable")[:NEAR]]
    by_rivals = described[:, rivals]
    margins = scores - _mean_of_best(by_rivals, int(np.clip(len(rivals) // 20, 1, RIVALS)))
    own = np.column_stack([margins, hits @ query]).astype(np.float64)

    best = np.argsort(-scores, kind="stable")[: len(reference.level)]
    score = scores[best].mean()
    ahead = np.count_nonzero(by_rivals[best].mean(axis=0) > score)
    # Of few pictures the spread is hardly known: then the typical one, which is 1, has its say.
    spread = max(float(direction @ reference.covariance @ direction), 0.0) / reference.sigma**2
    spread = (spread * reference.count + PRIOR_PICTURES) / (reference.count + PRIOR_PICTURES)
    common = [
        score - reference.likely_score(direction, len(best)),
        score - _mean_of_best(described[best][:, near], NEAR).mean(),
        np.log10((ahead + 1) / (len(rivals) + 1)),
        np.log(spread) / 2,
        min(np.log10(reference.count), 5.0),
    ]
    return own, np.array([*own[best[0]], *common], np.float64)


def _mean_of_best(scores: Floats, number: int) -> Floats:
    """Mean of each row's `number` highest scores, or of all if there are fewer; 0 without any."""
    number = min(number, scores.shape[1])
    if not number:
        return np.zeros(len(scores), np.float32)
    return np.partition(scores, -number, axis=1)[:, -number:].mean(axis=1)
