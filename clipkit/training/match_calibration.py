"""Calibrate the match decision for a model of the sample world.

The weights for photographs do not transfer to a model that knows 96 things with certainty. Instead, libraries of
several sizes are painted that lack some things, settings and combinations, and queried for what they contain and lack;
a logistic regression on the match decision's evidence is fitted to the answers. Queries with unknown words are left
out: their embedding is that of the remaining words, which the library may well contain. Searches lower the confidence
for such words themselves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from clipkit.matching import PHOTOGRAPHS, Calibration
from clipkit.matching.bank import ConceptBank
from clipkit.matching.calibration import fit_logistic, probability
from clipkit.matching.evidence import Reference, text_evidence
from clipkit.matching.pictures import picture_similarity
from clipkit.matching.statistics import LibraryStatistics
from clipkit.models.encoder import Encoder
from clipkit.samples.captions import caption, query, setting_alone
from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, compose, random_scene, settings, things
from clipkit.vectors.unit import unit

SIZES = (3, 10, 30, 100, 300, 1000, 2000) * 2
QUERIES = 120
ABSENT_THINGS, ABSENT_SETTINGS = 24, 3
FALSE_NEGATIVE_RATE = 0.06
"""The share of answerable queries that may be reported as unmatched.

It is well below the promised one in ten, because a filtered search has less evidence than these libraries provide.
"""

NEAREST = 20
"""How many of the nearest images the match decision considers."""


@dataclass(frozen=True)
class Trial:
    """A library of scenes, and text and image queries with whether the library contains a match."""

    library: list[Scene]
    texts: list[tuple[str, bool]]
    images: list[tuple[Scene, bool]]


def random_trial(size: int, rng: random.Random) -> Trial:
    """Return a library that lacks 24 things, 3 settings and a tenth of the remaining pairs, with queries.

    Queries ask for scenes, their things, and settings alone, both present and absent.
    """
    absent_things = set(rng.sample(range(len(things())), ABSENT_THINGS))
    absent_settings = set(rng.sample(range(len(settings())), ABSENT_SETTINGS))
    present_things = [thing for thing in things() if thing.index not in absent_things]
    present_settings = [setting for setting in settings() if setting.index not in absent_settings]
    absent_pairs = {(t.index, s.index) for t in present_things for s in present_settings if rng.random() < 0.1}

    def allowed(scene: Scene) -> bool:
        setting, shown = scene.content
        if setting in absent_settings or shown & absent_things:
            return False
        return not any((thing, setting) in absent_pairs for thing in shown)

    library = list(islice((s for s in iter(lambda: random_scene(rng), None) if allowed(s)), size))
    present = [rng.choice(library) for _ in range(QUERIES)]
    third, quarter = QUERIES // 3, QUERIES // 4
    lacking_thing = [
        compose(rng.choice(present_settings), [things()[rng.choice(sorted(absent_things))]], rng) for _ in range(third)
    ]
    pairs = rng.choices(sorted(absent_pairs), k=third)
    lacking_pair = [compose(settings()[s], [things()[t]], rng) for t, s in pairs]
    lacking_setting = [settings()[rng.choice(sorted(absent_settings))] for _ in range(quarter)]
    texts = [(query(scene, rng), True) for scene in present]
    texts += [(setting_alone(scene.setting, rng), True) for scene in present[:quarter]]
    texts += [(setting_alone(setting, rng), False) for setting in lacking_setting]
    texts += [(query(scene, rng), False) for scene in lacking_thing]
    texts += [(caption(scene, rng), False) for scene in lacking_pair]
    reposed = [compose(s.setting, [p.thing for p in s.placed], rng, s.relation) for s in present]
    return Trial(library, texts, [(s, True) for s in reposed] + [(s, False) for s in lacking_thing + lacking_pair])


def calibrate(encoder: Encoder, sizes: Sequence[int] = SIZES, seed: int = 0) -> Calibration:
    """Fit the weights and the threshold of the match decision for a model of the sample world."""
    rng = random.Random(f"calibration {seed}")
    bank = ConceptBank.of(unit(encoder.encode_texts(list(encoder.concepts))))
    evidence: list[np.ndarray] = []
    similarity: list[float] = []
    text_present: list[bool] = []
    image_present: list[bool] = []
    for size in sizes:
        trial = random_trial(size, rng)
        library = scene_vectors(encoder, trial.library)
        statistics = LibraryStatistics.empty(bank.dimension, len(bank.directions))
        statistics.add(library, bank)
        reference = Reference.of(statistics, bank)
        for vector in unit(encoder.encode_texts([text for text, _ in trial.texts])):
            evidence.append(text_evidence(reference, vector, unit(vector - bank.mean), _nearest(library, vector))[1])
        for vector in scene_vectors(encoder, [scene for scene, _ in trial.images]):
            similarity.append(float(picture_similarity(reference, vector, _nearest(library, vector)).max()))
        text_present += [present for _, present in trial.texts]
        image_present += [present for _, present in trial.images]
    *text_weights, text_offset = fit_logistic(evidence, text_present)
    slope, offset = fit_logistic(np.array(similarity)[:, None], image_present, penalty=0.01)
    confidence = probability(np.array(evidence) @ text_weights + text_offset)
    threshold = float(np.quantile(confidence[np.array(text_present)], FALSE_NEGATIVE_RATE))
    return Calibration(
        text_weights=tuple(round(float(weight), 3) for weight in text_weights),
        text_offset=round(float(text_offset), 3),
        image_slope=round(float(slope), 3),
        image_middle=round(float(-offset / slope), 3) if slope > 0 else PHOTOGRAPHS.image_middle,
        threshold=round(threshold, 3),
    )


def scene_vectors(encoder: Encoder, sample: Sequence[Scene]) -> np.ndarray:
    """Return unit embeddings, float32 (n, d), of scenes; painted at twice the input size, since photos are larger."""
    size = 2 * encoder.preprocessing.size
    parts = [
        encoder.encode_images(np.stack([encoder.preprocessing.pixels(paint(s, size)) for s in sample[i : i + 100]]))
        for i in range(0, len(sample), 100)
    ]
    return unit(np.concatenate(parts))


def _nearest(library: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return library[np.argsort(-(library @ vector), kind="stable")[:NEAREST]]
