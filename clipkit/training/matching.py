"""Calibrate the match decision for the space of the emoji world.

The weights that hold for photographs do not hold for a space that knows 96 things for certain. So scenes are painted
into libraries of several sizes, each lacking some things, settings and combinations, and asked for what they have and
lack; a logistic model over the decision's own evidence is fitted to the answers. Words that the space does not know are
not asked for: their vectors are those of what is left of the query, which may well be there. A search that meets such
words lowers its confidence itself.
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
from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, caption, compose, query, random_scene, setting_alone, settings, things
from clipkit.vectors.unit import unit

SIZES = (3, 10, 30, 100, 300, 1000, 2000) * 2
QUERIES = 120
LACKING, LACKING_SETTINGS = 24, 3
TURNED_AWAY = 0.06
"""The share of queries that a library can answer which may be turned away: well under the one in ten promised, because
filters leave less to judge by than these libraries have."""

NEAREST = 20


@dataclass(frozen=True)
class Trial:
    """A library of scenes and what it is asked: captions and scenes, with whether it shows them."""

    library: list[Scene]
    texts: list[tuple[str, bool]]
    pictures: list[tuple[Scene, bool]]


def trial(size: int, rng: random.Random) -> Trial:
    """A library that lacks 24 things, 3 settings and a tenth of the other pairs of these, asked for what it has and
    lacks: scenes, their things, and settings alone."""
    lacking = set(rng.sample(range(len(things())), LACKING))
    nowhere = set(rng.sample(range(len(settings())), LACKING_SETTINGS))
    there = [thing for thing in things() if thing.index not in lacking]
    places = [setting for setting in settings() if setting.index not in nowhere]
    missing = {(t.index, s.index) for t in there for s in places if rng.random() < 0.1}

    def fits(scene: Scene) -> bool:
        setting, shown = scene.content
        return not (setting in nowhere or shown & lacking or any((thing, setting) in missing for thing in shown))

    library = list(islice((s for s in iter(lambda: random_scene(rng), None) if fits(s)), size))
    shown = [rng.choice(library) for _ in range(QUERIES)]
    third, quarter = QUERIES // 3, QUERIES // 4
    absent_things = [compose(rng.choice(places), [things()[rng.choice(sorted(lacking))]], rng) for _ in range(third)]
    pairs = rng.choices(sorted(missing), k=third)
    absent_pairs = [compose(settings()[s], [things()[t]], rng) for t, s in pairs]
    absent_settings = [settings()[rng.choice(sorted(nowhere))] for _ in range(quarter)]
    texts = [(query(scene, rng), True) for scene in shown]
    texts += [(setting_alone(scene.setting, rng), True) for scene in shown[:quarter]]
    texts += [(setting_alone(setting, rng), False) for setting in absent_settings]
    texts += [(query(scene, rng), False) for scene in absent_things]
    texts += [(caption(scene, rng), False) for scene in absent_pairs]
    again = [compose(s.setting, [p.thing for p in s.placed], rng, s.relation) for s in shown]
    return Trial(library, texts, [(s, True) for s in again] + [(s, False) for s in absent_things + absent_pairs])


def calibrate(encoder: Encoder, sizes: Sequence[int] = SIZES, seed: int = 0) -> Calibration:
    """The weights and the threshold of the match decision for an encoder of the emoji world."""
    rng = random.Random(f"calibration {seed}")
    bank = ConceptBank.of(unit(encoder.encode_texts(list(encoder.concepts))))
    evidence: list[np.ndarray] = []
    alike: list[float] = []
    present: list[bool] = []
    shown: list[bool] = []
    for size in sizes:
        task = trial(size, rng)
        library = scene_vectors(encoder, task.library)
        statistics = LibraryStatistics.empty(bank.dimension, len(bank.directions))
        statistics.add(library, bank)
        reference = Reference.of(statistics, bank)
        for vector in unit(encoder.encode_texts([text for text, _ in task.texts])):
            evidence.append(text_evidence(reference, vector, unit(vector - bank.mean), _nearest(library, vector))[1])
        for vector in scene_vectors(encoder, [scene for scene, _ in task.pictures]):
            alike.append(float(picture_similarity(reference, vector, _nearest(library, vector)).max()))
        present += [there for _, there in task.texts]
        shown += [there for _, there in task.pictures]
    *text_weights, text_offset = fit_logistic(evidence, present)
    slope, offset = fit_logistic(np.array(alike)[:, None], shown, penalty=0.01)
    confidence = probability(np.array(evidence) @ text_weights + text_offset)
    threshold = float(np.quantile(confidence[np.array(present)], TURNED_AWAY))
    return Calibration(
        text_weights=tuple(round(float(weight), 3) for weight in text_weights),
        text_offset=round(float(text_offset), 3),
        image_slope=round(float(slope), 3),
        image_middle=round(float(-offset / slope), 3) if slope > 0 else PHOTOGRAPHS.image_middle,
        threshold=round(threshold, 3),
    )


def scene_vectors(encoder: Encoder, sample: Sequence[Scene]) -> np.ndarray:
    """Unit vectors float32 (n, d) of painted scenes, painted at twice the model's size: pictures come larger."""
    size = 2 * encoder.preprocessing.size
    parts = [
        encoder.encode_images(np.stack([encoder.preprocessing.pixels(paint(s, size)) for s in sample[i : i + 100]]))
        for i in range(0, len(sample), 100)
    ]
    return unit(np.concatenate(parts))


def _nearest(library: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return library[np.argsort(-(library @ vector), kind="stable")[:NEAREST]]
