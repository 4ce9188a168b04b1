"""What else could tell right hits from wrong ones? Evidence that was tried beside that of `hit_evidence`.

Each row is a logistic model of single hits with weights from other nouns, on the first hits of present nouns. Prompt
ensembles are left out: the data has one text a noun, and no text tower.
"""

from __future__ import annotations

import numpy as np
from match_data import Case, RealClip
from match_hits import reference_of_case
from match_measures import report_hits

from clipkit.matching import PHOTOGRAPHS
from clipkit.matching.calibration import fit_logistic, probability
from clipkit.matching.evidence import Reference, text_evidence
from clipkit.matching.hits import hit_evidence
from clipkit.matching.matcher import TOP
from clipkit.vectors.unit import unit

ROWS = {
    "margin": ("margin",),
    "margin, distance to the best (shipped)": ("margin", "behind"),
    "and cosine": ("margin", "behind", "cosine"),
    "and rank": ("margin", "behind", "rank"),
    "and the library's answer": ("margin", "behind", "answer"),
    "and its answer without the better hits": ("margin", "behind", "removed"),
    "and a mixture of two of the query's scores": ("margin", "behind", "mixture"),
    "and the scores of its own neighbours": ("margin", "behind", "neighbours"),
    "and nearness to the two surest hits": ("margin", "behind", "expansion"),
    "all of these": ("margin", "behind", "rank", "answer", "removed", "mixture", "neighbours", "expansion"),
}


def evidence_of(case: Case, reference: Reference, row: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each kind of evidence of a query's first hits, (k,), and which of these are right, (k,) bool."""
    query = case.queries[row]
    nearest = np.argsort(-(case.library @ query), kind="stable")[:TOP]
    hits, direction = case.library[nearest], unit(query - reference.bank.mean)
    margin, behind, cosine = hit_evidence(reference, query[None], direction[None], hits)[0].T
    scores = reference.whitened(case.library) @ direction / reference.bank.length(direction)
    surest = hits[np.argsort(-margin)[:2]].mean(axis=0)
    alike = hits @ case.library.T
    alike[np.arange(len(nearest)), nearest] = -np.inf
    friends = np.argsort(-alike, axis=1)[:, :5]
    removed = [text_evidence(reference, query, direction, hits[place:])[1] for place in range(len(hits))]
    answers = [case.weights.text_logit(numbers) for numbers in removed]
    columns = {
        "margin": margin,
        "behind": behind,
        "cosine": cosine,
        "rank": np.log1p(np.arange(len(nearest))),
        "answer": np.full(len(nearest), answers[0]),
        "removed": np.array(answers),
        "mixture": mixture_log_odds(scores)[nearest],
        "neighbours": scores[friends].mean(axis=1),
        "expansion": (hits - reference.mean) @ unit(surest - reference.mean),
    }
    assert case.shows is not None
    return columns, case.shows[row, nearest]


def mixture_log_odds(scores: np.ndarray, rounds: int = 30) -> np.ndarray:
    """Fit two normal distributions to the scores of all pictures; return the log odds of the upper one, (n,).

    Expectation maximisation, from the hundredth of the pictures with the highest scores (Dempster et al., 1977).
    """
    upper = (scores >= np.quantile(scores, 0.99)).astype(float)
    odds = np.zeros(len(scores))
    for _ in range(rounds):
        logs = []
        for share in (upper, 1 - upper):
            total = max(share.sum(), 1e-6)
            mean = (share * scores).sum() / total
            spread = np.sqrt(max((share * (scores - mean) ** 2).sum() / total, 1e-3))
            logs.append(np.log(total) - np.log(spread) - ((scores - mean) / spread) ** 2 / 2)
        odds = np.clip(logs[0] - logs[1], -30, 30)
        upper = probability(odds)
    return odds


def judge_alternatives(data: RealClip, folds: int = 10) -> None:
    """Print a row for each kind of evidence."""
    columns: dict[str, list[np.ndarray]] = {}
    rights, nouns = [], []
    for case in data.present_cases():
        found, right = evidence_of(case, reference_of_case(case), 0)
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
        rights.append(right)
        nouns.append(np.full(len(right), len(nouns)))
    right, noun = np.concatenate(rights), np.concatenate(nouns)
    fold = (np.random.default_rng(0).permutation(len(rights)) % folds)[noun]
    bar = PHOTOGRAPHS.hits.threshold
    print(f"\nevidence of single hits, weights from other nouns, {len(rights)} salient nouns:")
    for name, chosen in ROWS.items():
        evidence = np.column_stack([np.concatenate(columns[column]) for column in chosen])
        chance = np.zeros(len(right))
        for held in range(folds):
            *weights, offset = fit_logistic(evidence[fold != held], right[fold != held])
            chance[fold == held] = probability(evidence[fold == held] @ weights + offset)
        report_hits(name, chance, right, chance >= bar)
