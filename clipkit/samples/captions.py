"""Captions and queries for scenes of the sample world, and the words they can contain."""

from __future__ import annotations

import random
import re
from functools import cache

from clipkit.samples.world import OPPOSITE, Scene, Setting, settings, things

_FRAMES = (
    *["{}"] * 4,
    "a picture of {}",
    "a photo of {}",
    "an image of {}",
    "a scene with {}",
    "there is {}",
)
_RELATIONS = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
}


def caption(scene: Scene, rng: random.Random, *, complete: bool = True, place: bool = False) -> str:
    """Return a random caption of a scene in plain words.

    `complete`: name all things and the setting; otherwise one of them may be left out.
    `place`: always say where the things are.
    """
    left_out = "" if complete or place else rng.choices(["", "setting", "things", "one thing"], [85, 7, 4, 4])[0]
    where = rng.choice(scene.setting.phrases)
    names = [p.thing.phrase(rng) for p in scene.placed]
    if left_out == "things":
        return rng.choice(_setting_captions(scene.setting, where))
    if left_out == "one thing":
        subject = rng.choice(names)
    elif len(names) == 1:
        subject = names[0]
        if scene.relation and (place or rng.random() < 0.4):
            subject += f" on the {scene.relation}"
    else:
        subject = _pair(scene.relation, names[0], names[1], rng, place)
    words = rng.choice(_FRAMES).format(subject)
    if left_out == "setting":
        return words
    return f"{where}, {words}" if rng.random() < 0.1 else f"{words} {where}"


def _pair(relation: str, first: str, second: str, rng: random.Random, place: bool) -> str:
    if rng.random() < 0.5:
        first, second, relation = second, first, OPPOSITE[relation]
    if place or rng.random() < 0.5:
        return f"{first} {rng.choice(_RELATIONS[relation])} {second}"
    return f"{first} {rng.choice(('and', 'and', 'with', 'next to', 'beside'))} {second}"


def setting_alone(setting: Setting, rng: random.Random) -> str:
    """Return a random caption of a setting that names no thing."""
    return rng.choice(_setting_captions(setting, rng.choice(setting.phrases)))


def _setting_captions(setting: Setting, where: str) -> tuple[str, ...]:
    return setting.name, "a picture " + where, where


def query(scene: Scene, rng: random.Random) -> str:
    """Return what a person searching for the scene might type: usually all of it, often just one of its things."""
    if rng.random() < 0.6:
        return caption(scene, rng)
    thing = rng.choice(scene.placed).thing
    return thing.phrase(rng) if rng.random() < 0.5 else thing.with_article(thing.name)


@cache
def vocabulary() -> frozenset[str]:
    """Return every word that captions can contain, in lower case."""
    words = {w for t in things() for name in (*t.names, t.plural) for w in name.split()}
    words |= {w for s in settings() for phrase in (s.name, *s.phrases) for w in phrase.split()}
    words |= {w for phrases in _RELATIONS.values() for phrase in phrases for w in phrase.split()}
    words |= {w for frame in _FRAMES for w in re.findall(r"[a-z]+", frame)}
    return frozenset(
        words | {"a", "an", "the", "and", "with", "next", "to", "beside", "on", "left", "right", "picture"}
    )


def concepts() -> list[str]:
    """Return the concept bank of the sample world: a short phrase for each thing and each setting."""
    return [t.with_article(t.name) for t in things()] + [f"a picture {s.phrases[0]}" for s in settings()]
