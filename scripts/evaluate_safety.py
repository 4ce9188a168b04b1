#!/usr/bin/env python3
"""How well does the check of generated pictures work? Prints tables for docs/safety.md.

    python scripts/evaluate_safety.py [VECTORS.npz]

VECTORS.npz holds real CLIP vectors with the nouns of captions, in the format of ../shared/real_clip (the default). Some
of its nouns play the part of refused concepts: no vectors of what is really refused are published with it.

Texts: a concept's prototype is made of a few nouns; caught are other words for the same, which the prototype has not
seen, and refused falsely are all nouns that have nothing to do with it. Photos: each salient noun in turn is refused;
caught are photos of which three of five captions name it, and refused falsely are those of which none does, although
some show it all the same. Thresholds are those of `clipkit.matching.prototypes`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from match_data import RealClip  # noqa: E402
from match_measures import auroc  # noqa: E402

from clipkit.matching.prototypes import PICTURE_THRESHOLD, TEXT_THRESHOLD, Prototypes  # noqa: E402

REAL = Path(__file__).parents[1] / ".." / "shared" / "real_clip" / "development.npz"
LISTS, LIST_LENGTH = 200, 8
"""How many lists of how many concepts a photo is checked against."""

TEXTS = {
    "guns": ("gun handgun rifle", "shotgun/machine gun/pistol", "weapon cannon missile projectile sword dagger drill"),
    "blades": ("dagger sword pocketknife", "knife/kitchen knife/steak knife/spear/ax", "weapon razorblade scissors"),
    "alcohol": (
        "alcohol beer wine",
        "liquor/vodka/tequila/cocktail/cider/beer bottle/beer can/wine bottle",
        "wineglass martini bottle drink vinegar",
    ),
    "underwear": (
        "underwear brassiere",
        "underdrawers/pantyhose/corset/swimsuit/swimwear",
        "tights nightshirt pajamas trousers shorts sock miniskirt legging",
    ),
    "dogs": ("dog puppy", "dalmatian/bulldog/pug-dog/shepherd dog", "pet animal wolf fox"),
    "smoking": (
        "cigarette",
        "cigar\\cigarette/tobacco pipe/hookah/cigarette case/cigar box",
        "tobacco lighter pipe ashtray igniter",
    ),
    "insects": (
        "insect beetle cockroach",
        "ant/bee/centipede/spider/dragonfly/hornet/tick/caterpillar/ladybug/butterfly/moths and butterflies",
        "invertebrate snail animal beehive hummingbird",
    ),
    "money": ("money coin dollar", "penny/piggy bank/wallet", "receipt check checkbook"),
    "reptiles": (
        "snake reptile",
        "lizard/crocodile/alligator/turtle/tortoise/sea turtle",
        "frog dinosaur animal caterpillar invertebrate",
    ),
}
"""Concept: what its prototype is made of, other words for it, and words near it that count neither way."""
NEAR_TOO = {"water gun", "bulletproof vest", "army tank", "dog bed", "dog collar", "hot dog", "wine glass"}
NEAR_TOO |= {
    "wine bucket",
    "shot glass",
    "root beer",
    "short pants",
    "wallet/purse",
    "cash register",
    "poker chip",
    "cricket ball",
}


def texts(real: RealClip) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each concept with the scores of other words for it, and of unrelated nouns."""
    row = {str(name): number for number, name in enumerate(real.names)}
    for concept, (made_of, others, near) in TEXTS.items():
        own = [row[word] for word in made_of.split()]
        same = [row[word.replace("\\", "/")] for word in others.split("/")]
        around = [row[word] for word in (*near.split(), *NEAR_TOO) if word in row]
        prototypes = Prototypes.fit([real.texts[own]], np.delete(real.texts, own, axis=0))
        scores = prototypes.in_texts(real.texts)[:, 0]
        yield concept, scores[same], np.delete(scores, [*own, *same, *around])


def photos(real: RealClip) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each salient noun with the scores of all photos, and how many captions name it there."""
    for number in real.nouns():
        prototypes = Prototypes.fit([real.texts[[number]]], np.delete(real.texts, number, axis=0))
        yield str(real.names[number]), prototypes.in_pictures(real.images)[:, 0], real.mentions[number]


def table(rows: list[tuple[str, np.ndarray, np.ndarray]], threshold: float, what: str) -> None:
    """Print a row for each concept, and the mean: its AUROC, how many are caught and how many falsely refused."""
    print(f"{'concept':16s} {'AUROC':>6s} {'caught':>7s} {'of':>4s}  {'refused falsely':>15s}  of {what}")
    measured = []
    for name, yes, no in rows:
        labels = np.r_[np.ones(len(yes), bool), np.zeros(len(no), bool)]
        area = auroc(np.r_[yes, no], labels)
        caught, wrong = float((yes >= threshold).mean()), float((no >= threshold).mean())
        measured.append((area, caught, wrong))
        print(f"{name:16s} {area:6.3f} {caught:7.0%} {len(yes):4d}  {wrong:15.2%}  {len(no)}")
    area, caught, wrong = np.mean(measured, axis=0)
    print(f"{'mean':16s} {area:6.3f} {caught:7.0%}       {wrong:15.2%}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", nargs="?", type=Path, default=REAL)
    real = RealClip.load(parser.parse_args().vectors)
    print(f"texts, from a score of {TEXT_THRESHOLD}:")
    table(list(texts(real)), TEXT_THRESHOLD, "unrelated nouns")
    print(f"photos, from a score of {PICTURE_THRESHOLD}:")
    judged = list(photos(real))
    table([(name, s[m >= 3], s[m == 0]) for name, s, m in judged], PICTURE_THRESHOLD, "photos not said to show it")
    high = np.stack([scores for _, scores, _ in judged]) >= PICTURE_THRESHOLD
    named = np.stack([mentions for _, _, mentions in judged]) > 0
    rng, shares = np.random.default_rng(0), []
    for _ in range(LISTS):
        chosen = rng.choice(len(judged), LIST_LENGTH, replace=False)
        harmless = ~named[chosen].any(axis=0)
        shares.append(high[chosen][:, harmless].any(axis=0).mean())
    quartiles = ", ".join(f"{share:.1%}" for share in np.quantile(shares, [0.25, 0.5, 0.75]))
    print(f"photos refused falsely by {LISTS} lists of {LIST_LENGTH} of these nouns, quartiles: {quartiles}")


if __name__ == "__main__":
    main()
