"""The test of the match decision with the bundled model: 2,000 scenes without 24 things, 2 settings and some pairs."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np

from clipkit.matching.parts import parts_of, standalone
from clipkit.models.loading import load_encoder
from clipkit.samples.captions import caption, query, setting_alone
from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, compose, random_scene, settings, things
from clipkit.searching.unknown_words import confidence_factor
from clipkit.training.match_calibration import NOTHING, Named, named, shows
from clipkit.vectors.unit import unit

LIBRARY, QUERIES = 2000, 400
LACKING, LACKING_SETTINGS = 24, 2
COMBINATIONS = 200
UNKNOWN = (
    "zither",
    "chandelier",
    "walrus",
    "hedgehog",
    "sofa",
    "lighthouse",
    "mermaid",
    "kettle",
    "saxophone",
    "dragon",
    "wheelbarrow",
    "hammock",
    "broccoli",
    "ostrich",
    "typewriter",
    "canoe",
    "pretzel",
    "cathedral",
    "scarecrow",
    "moose",
)
"""Words outside the vocabulary of the sample world."""


def scene_vectors(seed: int = 99) -> dict[str, np.ndarray]:
    """Return unit vectors of library, bank and queries, with the kind of each query and whether it is present.

    Keys: library (n, d), bank (c, d), queries (q, d), kinds (q,) str, present (q,) bool, and known (q,), the factor by
    which a search multiplies the confidence for unknown words; shows (q, n) bool, whether a scene shows all that a
    query names; parts (p, d) and part_of (p,), the parts of queries that have several, and the rows of these.

    The library lacks some things, some settings, and some pairs of a thing and a setting. Absent queries name one of
    these, or an unknown word in place of a thing; present ones describe scenes of the library. Many queries name a
    thing without a setting, as people do, and some a setting alone.
    """
    rng = random.Random(seed)
    lacking = set(rng.sample(range(len(things())), LACKING))
    there = [thing for thing in things() if thing.index not in lacking]
    nowhere = set(rng.sample(range(len(settings())), LACKING_SETTINGS))
    places = [setting for setting in settings() if setting.index not in nowhere]
    pairs = [(thing, setting) for thing in there for setting in places]
    missing = {(thing.index, setting.index) for thing, setting in rng.sample(pairs, COMBINATIONS)}

    def fits(scene: Scene) -> bool:
        setting, shown = scene.content
        return not (setting in nowhere or shown & lacking or any((thing, setting) in missing for thing in shown))

    endless = iter(lambda: random_scene(rng), None)
    library = list(islice((scene for scene in endless if fits(scene)), LIBRARY))
    contents = {scene.content for scene in library}
    queries: list[tuple[str, str]] = []
    asked: list[Named] = []

    def ask(kind: str, text: str, scene: Scene) -> None:
        queries.append((kind, text))
        asked.append(named(text, scene))

    for scene in rng.sample(library, QUERIES):
        ask("present", query(scene, rng), scene)
    for _ in range(QUERIES):
        thing = things()[rng.choice(sorted(lacking))]
        scene = compose(rng.choice(places), [thing], rng)
        ask("absent object", query(scene, rng), scene)
    for thing_index, setting_index in rng.choices(sorted(missing), k=QUERIES):
        scene = compose(settings()[setting_index], [things()[thing_index]], rng)
        assert scene.content not in contents
        ask("absent combination", caption(scene, rng), scene)
    for _ in range(QUERIES):
        scene = compose(rng.choice(places), [rng.choice(there)], rng)
        where = rng.choice(scene.setting.phrases)
        queries.append(("unknown word", f"{rng.choice(('a', 'a picture of a'))} {rng.choice(UNKNOWN)} {where}"))
        asked.append(NOTHING)

    for number in range(QUERIES // 2):
        there_too = number % 2 == 0
        setting = rng.choice(places) if there_too else settings()[rng.choice(sorted(nowhere))]
        scene = Scene(setting, (), seed=0)
        ask(f"setting alone{'' if there_too else ', absent'}", setting_alone(setting, rng), scene)

    parts = [
        (row, standalone(part))
        for row, (_, text) in enumerate(queries)
        for part in (parts_of(text) if len(parts_of(text)) > 1 else ())
    ]
    encoder = load_encoder("tiny", "cpu")
    images = [
        encoder.encode_images(np.stack([encoder.preprocessing.pixels(paint(s, 96)) for s in library[i : i + 100]]))
        for i in range(0, LIBRARY, 100)
    ]
    kinds = np.array([kind.removesuffix(", absent") for kind, _ in queries])
    present = [kind in ("present", "setting alone") for kind, _ in queries]
    return {
        "library": unit(np.concatenate(images)),
        "bank": unit(encoder.encode_texts(list(encoder.concepts))),
        "queries": unit(encoder.encode_texts([text for _, text in queries])),
        "kinds": kinds,
        "present": np.array(present),
        "known": np.array([confidence_factor(encoder.unknown_words(text)) for _, text in queries]),
        "parts": unit(encoder.encode_texts([text for _, text in parts])),
        "part_of": np.array([row for row, _ in parts]),
        "shows": np.array([[shows(scene, wanted) for scene in library] for wanted in asked]),
    }
