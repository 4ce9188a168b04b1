"""The emoji world: scenes of one or two things in a setting, with captions; all the bundled model knows.

A scene is a small value made from a seed; `paint` in `painting.py` turns it into pixels at any size, `caption` into
words. One tenth of the object-setting pairs and of the object-object pairs never occur in training: they measure
whether a model composes what it knows or only remembers.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

WORLD = Path(__file__).parent.parent / "bundled" / "world"
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Thing:
    """One of the things that scenes show; `names` are its name and synonyms, `uncounted` takes no article."""

    index: int
    name: str
    names: tuple[str, ...]
    plural: str
    uncounted: bool

    def phrase(self, rng: random.Random) -> str:
        """A noun phrase such as "a dog", "the puppy" or "dogs"."""
        if rng.random() < 0.05:
            return self.plural
        name = self.name if rng.random() < 0.7 else rng.choice(self.names)
        phrase = self.with_article(name)
        if phrase == name or rng.random() < 0.1:
            return name
        return "the " + name if rng.random() < 0.1 else phrase

    def with_article(self, name: str) -> str:
        """The name with "a" or "an" where it takes one."""
        if self.uncounted and name in (self.name, "spectacles", "eyeglasses"):
            return name
        return ("an " if name[0] in "aeiou" else "a ") + name


@dataclass(frozen=True)
class Setting:
    """A background such as the beach or the night, and the phrases that name it."""

    index: int
    name: str
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Placed:
    """A thing in a scene: centre and width as fractions of the picture's side, rotation in degrees."""

    thing: Thing
    x: float
    y: float
    width: float
    rotation: float
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    """What one picture shows. `seed` decides the details of the background."""

    setting: Setting
    placed: tuple[Placed, ...]
    seed: int
    relation: str = field(default="")

    @property
    def content(self) -> tuple[int, frozenset[int]]:
        """The setting's index and the set of its things' indices: what a caption must get right."""
        return self.setting.index, frozenset(p.thing.index for p in self.placed)

    @property
    def held_out(self) -> bool:
        """True if the scene has a combination that training never shows."""
        things = [p.thing for p in self.placed]
        pairs = [(t.name, self.setting.name) for t in things]
        if len(things) == 2:
            first, second = sorted(t.name for t in things)
            pairs.append((first, second))
        return any(is_held_out(*pair) for pair in pairs)


def is_held_out(first: str, second: str) -> bool:
    """Whether the pair (thing, setting) or (thing, thing in alphabetic order) is kept from training."""
    return zlib.crc32(f"{first}+{second}".encode()) / 2**32 < HELD_OUT_SHARE


@cache
def things() -> tuple[Thing, ...]:
    rows = json.loads((WORLD / "world.json").read_text("utf-8"))["objects"]
    return tuple(
        Thing(i, r["name"], (r["name"], *r["synonyms"]), r["plural"], r.get("uncounted", False))
        for i, r in enumerate(rows)
    )


@cache
def settings() -> tuple[Setting, ...]:
    rows = json.loads((WORLD / "world.json").read_text("utf-8"))["settings"]
    return tuple(Setting(i, r["name"], tuple(r["phrases"])) for i, r in enumerate(rows))


def random_scene(rng: random.Random) -> Scene:
    """A scene of one (45%) or two things, of all combinations alike."""
    setting = rng.choice(settings())
    what = [rng.choice(things())] if rng.random() < 0.45 else rng.sample(things(), 2)
    return compose(setting, what, rng)


def compose(setting: Setting, what: Iterable[Thing], rng: random.Random, relation: str | None = None) -> Scene:
    """Places one or two things in a setting. `relation` is where the first is: left, right, above, below."""
    what = list(what)

    def place(thing: Thing, x: float, y: float, width: float) -> Placed:
        jitter = 0.04
        return Placed(
            thing,
            x + rng.uniform(-jitter, jitter),
            y + rng.uniform(-jitter, jitter),
            width,
            rng.uniform(-12, 12),
            rng.random() < 0.5,
        )

    seed = rng.getrandbits(31)
    if len(what) == 1:
        relation = relation or rng.choices(["", "left", "right"], [2, 1, 1])[0]
        width = rng.uniform(0.45, 0.72) if not relation else rng.uniform(0.4, 0.52)
        x = {"": 0.5, "left": 0.27, "right": 0.73}[relation]
        return Scene(setting, (place(what[0], x, 0.56, width),), seed, relation)
    relation = relation or rng.choices(["left", "right", "above", "below"], [3, 3, 1, 1])[0]
    widths = [rng.uniform(0.36, 0.46) for _ in what]
    near, far = 0.26, 0.74
    spots = {
        "left": ((near, 0.56), (far, 0.56)),
        "right": ((far, 0.56), (near, 0.56)),
        "above": ((0.5, near), (0.5, far)),
        "below": ((0.5, far), (0.5, near)),
    }[relation]
    placed = tuple(place(t, x, y, w) for t, (x, y), w in zip(what, spots, widths, strict=True))
    return Scene(setting, placed, seed, relation)


SPOTS = ("", "left", "right", "above", "below")
"""Where a thing can be: in the middle alone, or on one side."""
_CALM = {
    "": (0.5, 0.54, 0.62),
    "left": (0.25, 0.56, 0.46),
    "right": (0.75, 0.56, 0.46),
    "above": (0.5, 0.26, 0.46),
    "below": (0.5, 0.75, 0.46),
}


def spots(scene: Scene) -> list[str]:
    """Return where each thing of the scene is, one of `SPOTS`."""
    return [scene.relation] if len(scene.placed) == 1 else [scene.relation, _OPPOSITE[scene.relation]]


def calmed(scene: Scene) -> Scene:
    """Return the scene with each thing upright, unmirrored, and at the one place and size that its spot has.

    The decoder trains on calm scenes: a thing then looks the same wherever its spot is the same, which takes a fraction
    of the training that free poses take.
    """
    placed = (Placed(p.thing, *_CALM[spot], 0.0, False) for p, spot in zip(scene.placed, spots(scene), strict=True))
    return replace(scene, placed=tuple(placed))


def scenes(seed: int, *, held_out: bool = False) -> Iterator[Scene]:
    """An endless stream of scenes, the same for the same seed: seen combinations, or held-out ones only."""
    rng = random.Random(seed)
    while True:
        scene = random_scene(rng)
        if scene.held_out == held_out:
            yield scene


_FRAMES = (
    "{}", "{}", "{}", "{}", "a picture of {}", "a photo of {}", "an image of {}", "a scene with {}", "there is {}",
)  # fmt: skip
_RELATIONS = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
}
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def twin(scene: Scene, rng: random.Random) -> Scene:
    """The same things in the same setting with their sides swapped: the hardest picture to tell from this one."""
    return compose(scene.setting, [p.thing for p in scene.placed], rng, _OPPOSITE[scene.relation])


def caption(scene: Scene, rng: random.Random, *, complete: bool = True, place: bool = False) -> str:
    """A caption in plain words.

    `complete` names all things and the setting, otherwise one part may be left out; `place` always says where.
    """
    left_out = "" if complete or place else rng.choices(["", "setting", "things", "one thing"], [85, 7, 4, 4])[0]
    where = rng.choice(scene.setting.phrases)
    names = [p.thing.phrase(rng) for p in scene.placed]
    if left_out == "things":
        return rng.choice(_alone(scene.setting, where))
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


def setting_alone(setting: Setting, rng: random.Random) -> str:
    """Words for a setting that name no thing."""
    return rng.choice(_alone(setting, rng.choice(setting.phrases)))


def _alone(setting: Setting, where: str) -> tuple[str, ...]:
    return setting.name, "a picture " + where, where


def query(scene: Scene, rng: random.Random) -> str:
    """What a person types who looks for the scene: mostly all of it, often just one of its things."""
    if rng.random() < 0.6:
        return caption(scene, rng)
    thing = rng.choice(scene.placed).thing
    return thing.phrase(rng) if rng.random() < 0.5 else thing.with_article(thing.name)


def _pair(relation: str, first: str, second: str, rng: random.Random, place: bool) -> str:
    if rng.random() < 0.5:
        first, second, relation = second, first, _OPPOSITE[relation]
    if place or rng.random() < 0.5:
        return f"{first} {rng.choice(_RELATIONS[relation])} {second}"
    return f"{first} {rng.choice(('and', 'and', 'with', 'next to', 'beside'))} {second}"


@cache
def vocabulary() -> frozenset[str]:
    """Every word that captions can hold, in lower case."""
    words = {w for t in things() for name in (*t.names, t.plural) for w in name.split()}
    words |= {w for s in settings() for phrase in (s.name, *s.phrases) for w in phrase.split()}
    words |= {w for phrases in _RELATIONS.values() for phrase in phrases for w in phrase.split()}
    words |= {w for frame in _FRAMES for w in re.findall(r"[a-z]+", frame)}
    return frozenset(
        words | {"a", "an", "the", "and", "with", "next", "to", "beside", "on", "left", "right", "picture"}
    )


def concepts() -> list[str]:
    """The world's bank of concepts: each of its things, and each of its settings, in a few plain words."""
    return [t.with_article(t.name) for t in things()] + [f"a picture {s.phrases[0]}" for s in settings()]
