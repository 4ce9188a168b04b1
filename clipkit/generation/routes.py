"""Routes: how each part of a query gets to the image embeddings that a decoder takes.

What the library holds in the decoder's own space is taken as it is. Words are read by the decoder itself, or encoded
again by its text tower and prior. Pictures go through its image tower if that is on this machine, else across a bridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipkit.catalog.embeddings import load_embedding
from clipkit.errors import DecoderNotAvailable, UnreadableImage
from clipkit.generation import bridge as bridges
from clipkit.generation import decoder_files
from clipkit.generation.loading import has_trained_prior
from clipkit.generation.registry import DecoderEntry
from clipkit.models.hub.cache import is_offline
from clipkit.models.hub.locating import is_here
from clipkit.models.reference import ModelRef

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.catalog.catalog import Catalog
    from clipkit.generation.synthesis import Wish

Which = Literal["auto", "bridge"]
How = Literal["prompt", "prior", "stored", "own tower", "model's tower", "decoder's tower", "bridge"]

SAME, AGAIN, BRIDGE, PROMPT = "same space", "encoded again", "bridge", "prompt"


@dataclass(frozen=True)
class Part:
    """One term of a query on its way: `value` is its words, or what names its picture, and `content` the hash of that
    picture's bytes if it is a file."""

    value: Any
    is_picture: bool
    weight: float
    content: str = ""


@dataclass(frozen=True)
class Leg:
    """The route of one term. `space`: where its embedding comes from; empty if the decoder makes it."""

    part: Part
    how: How
    space: str = ""
    bridge: bridges.Bridge | None = None

    def to_json(self) -> dict:
        """Plain data, as `clipkit generate --json` holds it."""
        name = str(self.part.value) if isinstance(self.part.value, str | Path) else "(image)"
        return {"term": name, "route": self.route, "through": self.through}

    @property
    def route(self) -> str:
        """Its kind: same space, encoded again, bridge or prompt."""
        if self.how == "prompt":
            return PROMPT
        if self.how == "bridge":
            return BRIDGE
        if self.how in ("model's tower", "decoder's tower"):
            return AGAIN
        return SAME if self.space else AGAIN

    @property
    def through(self) -> str:
        """What it goes through, in words."""
        if self.bridge:
            first = "its embedding in the library" if self.part.content else "the library's image tower"
            return f"{first}, then {self.bridge.source} to {self.bridge.target}"
        return {
            "prompt": "the decoder's own text prompt",
            "prior": "the decoder's text tower and prior",
            "stored": f"its embedding in the library, in {self.space}",
            "own tower": f"the image tower of {self.space}",
            "model's tower": f"the image tower of {self.space}",
            "decoder's tower": "the decoder's own image tower",
        }[self.how]


@dataclass(frozen=True)
class Plan:
    """How pictures of a query will be made: the decoder, the leg of each term, and `notes` on what it costs.

    `fetches`: whether something must be downloaded first, and `tower` whether the image tower is part of that.
    `nothing`: the bridge that gives the embedding of no condition, where the decoder's own cannot be had.
    """

    entry: DecoderEntry
    legs: tuple[Leg, ...]
    notes: tuple[str, ...] = ()
    fetches: bool = False
    tower: bool = False
    nothing: bridges.Bridge | None = None

    def to_json(self) -> list[dict]:
        """Plain data: a row for each term."""
        return [leg.to_json() for leg in self.legs]

    def lines(self) -> list[str]:
        """The routes, a line each."""
        rows = [leg.to_json() for leg in self.legs]
        return [f"route: {row['term']}: {row['route']}, through {row['through']}" for row in rows]


@dataclass
class Ground:
    """What the routes may use of a library: its catalog and the folder of its bridges; nothing without a library."""

    catalog: Catalog | None = None
    folder: Path | None = None
    spaces: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.spaces = tuple(self.catalog.spaces()) if self.catalog else ()

    def bridge_to(self, entry: DecoderEntry) -> bridges.Bridge | None:
        """A bridge to what the decoder takes from one of the library's spaces, if one was fitted."""
        paths = [
            bridges.file_of(self.folder, source, target)
            for source in self.spaces
            for target in (entry.target, *entry.also)
            if self.folder
        ]
        return next((bridges.load(path) for path in paths if path.is_file()), None)


def plan(
    parts: Sequence[Part], entry: DecoderEntry, ground: Ground, *, route: Which = "auto", named: bool = False
) -> Plan:
    """The route of every part. `named`: the user named the decoder, so what it lacks may be downloaded.

    "bridge" takes pictures across the bridge though the decoder's image tower is here. Raises DecoderNotAvailable with
    the ways on if there is no route, ClipkitError for a torn bridge.
    """
    fetches, tower = bool(decoder_files.missing(entry)), False
    has_tower = has_image_tower(entry)
    model = "" if has_tower else model_here(entry)
    bridge = ground.bridge_to(entry)
    if route == "bridge" and bridge is None:
        raise DecoderNotAvailable(f"this library has no bridge to {entry.target}: {_how_to_bridge(entry)}")
    own = next((space for space in ground.spaces if space in entry.spaces), "")
    legs = []
    for part in parts:
        if not part.is_picture:
            legs.append(Leg(part, "prompt") if entry.reads_words else Leg(part, "prior", own))
        elif route == "auto" and own:
            legs.append(Leg(part, "stored" if _is_stored(ground, part, own) else "own tower", own))
        elif bridge and (route == "bridge" or not (has_tower or model)):
            known = _is_stored(ground, part, bridge.source)
            legs.append(Leg(part if known else _unstored(part), "bridge", bridge.source, bridge))
        elif model:
            legs.append(Leg(part, "model's tower", model))
        elif has_tower or (named and not entry.folder):
            legs.append(Leg(part, "decoder's tower"))
            tower = tower or not has_tower
        else:
            raise DecoderNotAvailable(
                f"the image tower of the decoder {entry.id} is not on this machine: {_how_to_bridge(entry)}"
            )
    nothing = None
    if entry.family == "kandinsky-2-2" and not has_trained_prior(entry) and decoder_files.cached_nothing(entry) is None:
        nothing = bridge if not has_tower else None
        tower = tower or not (has_tower or nothing)
    if tower and entry.folder:
        raise DecoderNotAvailable(f"{entry.folder} lacks prior/image_encoder, which guidance needs once")
    fetches = fetches or tower
    if fetches and not named:
        raise DecoderNotAvailable(f"the decoder {entry.id} is not on this machine: name it with --decoder to fetch it")
    if fetches and is_offline():
        decoder_files.fetch(entry)  # raises, before anything is announced
    return Plan(entry, tuple(legs), tuple(_costs(entry, fetches, tower)), fetches, tower, nothing)


def wishes(plan: Plan, ground: Ground, pictures: Sequence[Image | None], device: str) -> tuple[list[Wish], Any]:
    """What `clipkit.generation.synthesis.make` wants for a plan: its wishes, and the embedding of nothing, if bridged.

    `pictures`: the opened picture of every part that needs one (`needs_picture`), None for the others.
    """
    from clipkit.generation.synthesis import Wish
    from clipkit.models.loading import load_encoder

    def encoded(space: str, picture: Image) -> np.ndarray:
        encoder = load_encoder(space, device, export=False)
        return encoder.encode_images(encoder.preprocessing.pixels(picture)[None])[0]

    made = []
    for leg, picture in zip(plan.legs, pictures, strict=True):
        value: Any = leg.part.value if picture is None else picture
        if leg.space and leg.part.is_picture:
            value = encoded(leg.space, picture) if picture else _stored(ground, leg.part, leg.space)
        if leg.bridge:
            value = leg.bridge.cross(value[None])[0]
        made.append(Wish(value, leg.part.weight))
    nothing = None
    if plan.nothing:
        from PIL import Image as images

        encoder = load_encoder(plan.nothing.source, device, export=False)
        colour = tuple(round(255 * value) for value in encoder.preprocessing.mean)
        nothing = plan.nothing.cross(encoded(plan.nothing.source, images.new("RGB", (64, 64), colour))[None])[0]
    return made, nothing


def needs_picture(leg: Leg) -> bool:
    """Whether a leg begins with the pixels of its picture."""
    return leg.part.is_picture and leg.how != "stored" and not (leg.how == "bridge" and leg.part.content)


def has_image_tower(entry: DecoderEntry) -> bool:
    """Whether the image tower that goes with the decoder is on this machine."""
    if has_trained_prior(entry):
        return bool(entry.space) and is_here(ModelRef.of(entry.space))
    return decoder_files.tower_folder(entry) is not None


def model_here(entry: DecoderEntry) -> str:
    """A space that the decoder takes and whose model is on this machine, or empty."""
    return next((space for space in entry.spaces if is_here(ModelRef.of(space))), "")


def content_of(value: object) -> str:
    """The hash of a picture's bytes if it is a file that can be read, else empty."""
    from clipkit.images.hashing import content_hash
    from clipkit.images.limits import Limits

    if not isinstance(value, str | Path):
        return ""
    try:
        return content_hash(Path(value), Limits().bytes)
    except (UnreadableImage, OSError, ValueError):
        return ""


def _stored(ground: Ground, part: Part, space: str) -> np.ndarray | None:
    return load_embedding(ground.catalog, part.content, space) if ground.catalog and part.content else None


def _is_stored(ground: Ground, part: Part, space: str) -> bool:
    return _stored(ground, part, space) is not None


def _unstored(part: Part) -> Part:
    return Part(part.value, part.is_picture, part.weight)


def _how_to_bridge(entry: DecoderEntry) -> str:
    return f"fit a bridge with `clipkit bridge fit --to {entry.name}`"


def _costs(entry: DecoderEntry, fetches: bool, tower: bool) -> list[str]:
    lines = []
    if fetches:
        lines.append(f"the decoder {entry.id} is fetched first, about {entry.download(tower=tower)}")
    if entry.memory_gb:
        lines.append(
            f"the decoder {entry.id} wants about {entry.memory_gb:g} GB of GPU memory on CUDA, twice that elsewhere"
        )
    return lines
