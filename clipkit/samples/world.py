"""The sample world: scenes of one or two emoji in a setting, all that the bundled model knows.

A scene is a small value derived from a seed. `painting.paint` renders it at any size and `captions.caption` describes
it. A tenth of the thing-setting pairs and of the thing-thing pairs are held out of training, to measure whether a model
composes what it knows or only memorises.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

WORLD = Path(__file__).parent.parent / "bundled" / "world"
HELD_OUT_SHARE = 0.1
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Thing:
    """An object that scenes show.

    `names` holds its name and its synonyms. `uncounted` marks nouns without an article, such as "glasses".
    """

    index: int
    name: str
    names: tuple[str, ...]
    plural: str
    uncounted: bool

    def phrase(self, rng: random.Random) -> str:
        """Return a random noun phrase such as "a dog", "the puppy" or "dogs"."""
        if rng.random() < 0.05:
            return self.plural
        name = self.name if rng.random() < 0.7 else rng.choice(self.names)
        phrase = self.with_article(name)
        if phrase == name or rng.random() < 0.1:
            return name
        return "the " + name if rng.random() < 0.1 else phrase

    def with_article(self, name: str) -> str:
        """Prefix the name with "a" or "an" unless it is uncounted."""
        if self.uncounted and name in (self.name, "spectacles", "eyeglasses"):
            return name
        return ("an " if name[0] in "aeiou" else "a ") + name


@dataclass(frozen=True)
class Setting:
    """A background such as the beach or the night, with the phrases that name it."""

    index: int
    name: str
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class PlacedThing:
    """A thing in a scene: centre and width as fractions of the image's side, rotation in degrees."""

    thing: Thing
    x: float
    y: float
    width: float
    rotation: float
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    """The content of one image.

    `seed` determines the details of the background. `relation` is the position of the first thing: left, right, above,
    below, or empty for the centre.
    """

    setting: Setting
    placed: tuple[PlacedThing, ...]
    seed: int
    relation: str = field(default="")

    @property
    def content(self) -> tuple[int, frozenset[int]]:
        """The setting's index and the set of thing indices: what a caption must get right."""
        return self.setting.index, frozenset(p.thing.index for p in self.placed)

    @property
    def held_out(self) -> bool:
        """Whether the scene contains a pair that training never shows."""
        things = [p.thing for p in self.placed]
        pairs = [(t.name, self.setting.name) for t in things]
        if len(things) == 2:
            first, second = sorted(t.name for t in things)
            pairs.append((first, second))
        return any(is_held_out(*pair) for pair in pairs)


def is_held_out(first: str, second: str) -> bool:
    """Return whether a pair (thing, setting), or (thing, thing) in alphabetical order, is held out of training."""
    return zlib.crc32(f"{first}+{second}".encode()) / 2**32 < HELD_OUT_SHARE


@cache
def things() -> tuple[Thing, ...]:
    """Return the 96 things, in the order of the sprite sheet."""
    rows = json.loads((WORLD / "world.json").read_text("utf-8"))["objects"]
    return tuple(
        Thing(i, r["name"], (r["name"], *r["synonyms"]), r["plural"], r.get("uncounted", False))
        for i, r in enumerate(rows)
    )


@cache
def settings() -> tuple[Setting, ...]:
    """Return the 16 settings."""
    rows = json.loads((WORLD / "world.json").read_text("utf-8"))["settings"]
    return tuple(Setting(i, r["name"], tuple(r["phrases"])) for i, r in enumerate(rows))


def random_scene(rng: random.Random) -> Scene:
    """Return a scene of one (45%) or two things, uniform over all combinations."""
    setting = rng.choice(settings())
    what = [rng.choice(things())] if rng.random() < 0.45 else rng.sample(things(), 2)
    return compose(setting, what, rng)


def compose(setting: Setting, what: Iterable[Thing], rng: random.Random, relation: str | None = None) -> Scene:
    """Return a scene of one or two things in random poses; a random relation if none is given."""
    what = list(what)

    def place(thing: Thing, x: float, y: float, width: float) -> PlacedThing:
        jitter = 0.04
        return PlacedThing(
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
    centres = {
        "left": ((near, 0.56), (far, 0.56)),
        "right": ((far, 0.56), (near, 0.56)),
        "above": ((0.5, near), (0.5, far)),
        "below": ((0.5, far), (0.5, near)),
    }[relation]
    placed = tuple(place(t, x, y, w) for t, (x, y), w in zip(what, centres, widths, strict=True))
    return Scene(setting, placed, seed, relation)


def twin(scene: Scene, rng: random.Random) -> Scene:
    """Return a scene of the same things and setting with the sides swapped, the hardest negative for the original."""
    return compose(scene.setting, [p.thing for p in scene.placed], rng, OPPOSITE[scene.relation])


def scenes(seed: int, *, held_out: bool = False) -> Iterator[Scene]:
    """Yield random scenes without end, determined by the seed: training combinations, or held-out ones only."""
    rng = random.Random(seed)
    while True:
        scene = random_scene(rng)
        if scene.held_out == held_out:
            yield scene
