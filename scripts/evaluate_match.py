#!/usr/bin/env python3
"""How well does the match decision work? Prints tables of measures, of clipkit and of other methods.

    python scripts/evaluate_match.py [VECTORS.npz] [--recorded MODEL.npz]... [--fit] [--fast]

VECTORS.npz holds real CLIP vectors with the nouns of captions, in the format of ../shared/real_clip (the default). Does
the library have it? Three protocols are reported: `salient` nouns as that folder defines them; `any` noun that one
photo shows clearly; and `halves`, salient nouns in random halves of the photos. Which hits show it? The first twenty of
each noun that is present. The bundled model `tiny` is judged on painted scenes, by kind of what is absent; `--recorded`
adds a library with labelled queries, as `Recorded.load` reads it. --fit also prints the weights of
`clipkit/matching/calibration.py`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from match_alternatives import judge_alternatives  # noqa: E402
from match_answers import (  # noqa: E402
    SHIPPED,
    SIZE,
    cross_validate_nouns,
    cross_validate_photos,
    examples,
    fit,
    is_large,
    predict,
    training_set,
)
from match_baselines import METHODS, Method  # noqa: E402
from match_compounds import judge_compounds  # noqa: E402
from match_cost import milliseconds_at  # noqa: E402
from match_data import SIZES, Case, DataSet, RealClip, Recorded  # noqa: E402
from match_hits import judge_hits, judge_scenes  # noqa: E402
from match_measures import auroc, report, threshold_of  # noqa: E402
from match_negatives import judge_negatives  # noqa: E402
from match_pictures import judge_copies, judge_pictures  # noqa: E402
from match_ranking import judge_ranking  # noqa: E402

from clipkit.matching import PHOTOGRAPHS, Matcher  # noqa: E402

REAL = Path(__file__).parents[1] / ".." / "shared" / "real_clip" / "development.npz"


def score(method: Method, cases: Iterable[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of a method for all queries, and which are present."""
    cases = list(cases)
    scores = [method(case.library, case.bank, query) for case in cases for query in case.queries]
    return np.array(scores, float), np.concatenate([case.present for case in cases])


def clipkit_score(cases: Iterable[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Return clipkit's confidences for all queries, and which are present."""
    cases = list(cases)
    matchers = [Matcher.fit(case.library, case.bank, calibration=case.weights) for case in cases]
    scores = [
        matcher.confidence(case.queries, "text") * case.known for matcher, case in zip(matchers, cases, strict=True)
    ]
    return np.concatenate(scores), np.concatenate([case.present for case in cases])


def table(sets: list[DataSet], methods: dict[str, tuple[str, Method]]) -> None:
    """Print a row a method with its AUROC on each data set, and by kind where a set has several."""
    cases = {}
    for data in sets:
        for case in data.cases():
            column = data.name if case.kind == "text" else f"{data.name}: {case.kind}"
            cases.setdefault(column, []).append(case)
    widths = [max(9, len(column) + 2) for column in cases]

    def line(name: str, cells: Iterable[str], source: str) -> None:
        print(
            f"{name:32s}" + "".join(f"{c:>{w}s}" for c, w in zip(cells, widths, strict=True)) + f"  {source}",
            flush=True,
        )

    line("AUROC", cases, "source")
    for name, (source, method) in methods.items():
        row = [auroc(*score(method, column)) for column in cases.values()]
        line(name, [f"{value:.3f}" for value in row], source)
    row = [auroc(*clipkit_score(column)) for column in cases.values()]
    line("clipkit", [f"{value:.3f}" for value in row], "clipkit.matching.Matcher")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", nargs="?", type=Path, default=REAL)
    parser.add_argument("--recorded", type=Path, action="append", default=[])
    parser.add_argument("--fit", action="store_true", help="print the weights fitted on all nouns and photos")
    parser.add_argument("--fast", action="store_true", help="leave the baselines and the cost out")
    options = parser.parse_args()

    tiny = Recorded.tiny()
    sets: list[DataSet] = [tiny, *(Recorded.load(path) for path in options.recorded)]
    real = RealClip.load(options.vectors) if options.vectors.exists() else None
    if real:
        any_noun = real.some("any", strong=1, share=0.2)
        rng = np.random.default_rng(0)
        halves = [
            real.some("halves", half) for _ in range(2) for half in np.array_split(rng.permutation(len(real.images)), 2)
        ]
        sets += [real, any_noun, *halves]
    else:
        print(f"{options.vectors} is not there: real vectors are left out")
    table(sets, {} if options.fast else METHODS)
    print("\ntiny, 2,000 scenes; weights and threshold from other scenes (scripts/train_bundled.py):")
    for case in (*tiny.cases(), tiny.all()):
        confidence, present = clipkit_score([case])
        report(f"clipkit, {case.kind}", confidence, present, confidence < case.weights.threshold)
    judge_scenes(tiny)
    judge_copies(options.fit)
    if real:
        judge_hits(real, options.fit)
        if not options.fast:
            judge_alternatives(real)
        judge_ranking(real)
        judge_negatives(real)
        judge_compounds(real)
        print(f"\n{len(real.nouns())} salient nouns, {len(any_noun.nouns())} of any; cross-validated, salient:")
        test = examples(real.cases())
        train = training_set(real, 0)
        # Halves make the same nouns speak of other libraries; they stay with their noun when folds are made.
        for half in halves:
            train += examples(half.cases(), 0.5)
        confidence = predict(SHIPPED, test)
        report("clipkit, as shipped", confidence, test.present, confidence < PHOTOGRAPHS.threshold)
        cross_validate_nouns("clipkit, weights from other nouns", train, test)
        cross_validate_nouns("clipkit, weights from other nouns, any noun", train, examples(any_noun.cases()))
        cross_validate_photos(real, parts=2, rounds=2)
        cross_validate_photos(real, parts=3, rounds=1)
        small = examples(any_noun.small_cases(np.random.default_rng(1)))
        for size in SIZES:
            part = small[np.isclose(small.evidence[:, SIZE], np.log10(size))]
            confidence = predict(SHIPPED, part)
            report(
                f"clipkit, as shipped, {size} pictures",
                confidence,
                part.present,
                confidence < PHOTOGRAPHS.threshold,
            )
        judge_pictures(real, options.fit)
        if options.fit:
            weights = fit(train)
            full = is_large(train)
            print("\nTEXT_WEIGHTS =", np.round(weights[:-1], 2).tolist(), " TEXT_OFFSET =", round(weights[-1], 2))
            for name, part in (("all", train[full]), ("salient", test)):
                bar = threshold_of(predict(weights, part), part.present)
                print(f"threshold for one in ten present refused, {name}: {bar:.3f}")
    if not options.fast:
        decision, loading = milliseconds_at(100_000)
        print(f"\nat 100,000 vectors: {decision:.1f} ms a query beyond the search, {loading:.0f} ms to load")


if __name__ == "__main__":
    main()
