"""Routes: how each term of a query reaches the image embeddings that a decoder takes.

Embeddings that the library stores for the decoder's model are used as they are. Text goes to the decoder as a prompt,
or through the decoder's text tower and prior. Images go through its image tower if that is on disk, else over a bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipkit.catalog.embeddings import load_embedding
from clipkit.errors import DecoderNotAvailable
from clipkit.generation import bridge as bridges
from clipkit.generation import decoder_files
from clipkit.generation.loading import has_trained_prior, local_model
from clipkit.generation.registry import DecoderEntry
from clipkit.models.hub.cache import is_offline
from clipkit.models.hub.locating import is_here
from clipkit.models.reference import ModelRef
from clipkit.searching.query import name_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.catalog.catalog import Catalog
    from clipkit.generation.synthesis import Condition

RoutePreference = Literal["auto", "bridge"]
RouteMethod = Literal["prompt", "prior", "stored", "own tower", "model's tower", "decoder's tower", "bridge"]

_KINDS: dict[RouteMethod, str] = {
    "prompt": "prompt",
    "bridge": "bridge",
    "model's tower": "re-encoded",
    "decoder's tower": "re-encoded",
}


@dataclass(frozen=True)
class QueryTerm:
    """One term of a query, on its way to an embedding.

    `value`: text, or a reference to an image. `content`: hash of the image, see `hash_of_picture`.
    `open`: returns the image, RGB; it may be reduced, but not below the number of pixels given for its shorter side.
    """

    value: Any
    is_picture: bool
    weight: float
    content: str = ""
    open: Callable[[int], Image] | None = None


@dataclass(frozen=True)
class TermRoute:
    """The route of one term. `space`: the library's model whose embedding is used; empty if the decoder encodes it."""

    term: QueryTerm
    method: RouteMethod
    space: str = ""
    bridge: bridges.Bridge | None = None

    def to_json(self) -> dict[str, str]:
        """Return plain data, as in `clipkit generate --json`."""
        return {"term": name_of(self.term.value), "route": self.kind, "through": self.through}

    @property
    def kind(self) -> str:
        """The kind of route: same model, re-encoded, bridge or prompt."""
        return _KINDS.get(self.method, "same model" if self.space else "re-encoded")

    @property
    def through(self) -> str:
        """The components that the term goes through, in words."""
        if self.bridge:
            first = "its embedding in the library" if self.term.content else "the library's image tower"
            return f"{first}, then {self.bridge.source} to {self.bridge.target}"
        return {
            "prompt": "the decoder's own text prompt",
            "prior": "the decoder's text tower and prior",
            "stored": f"its embedding in the library, in {self.space}",
            "own tower": f"the image tower of {self.space}",
            "model's tower": f"the image tower of {self.space}",
            "decoder's tower": "the decoder's own image tower",
        }[self.method]


@dataclass(frozen=True)
class RoutePlan:
    """How to generate from a query: the decoder, and the route of each term.

    `notes`: what it costs, for the user.
    `needs_download`: whether files must be downloaded first, and `needs_tower` whether the image tower is among them.
    `unconditional_bridge`: the bridge for the unconditional embedding, if the decoder's own is not available.
    """

    entry: DecoderEntry
    routes: tuple[TermRoute, ...]
    notes: tuple[str, ...] = ()
    needs_download: bool = False
    needs_tower: bool = False
    unconditional_bridge: bridges.Bridge | None = None

    def to_json(self) -> list[dict[str, str]]:
        """Return plain data, one row for each term."""
        return [route.to_json() for route in self.routes]


@dataclass
class LibrarySource:
    """What routes may use of a library: its catalog and the folder of its bridges. Empty without a library."""

    catalog: Catalog | None = None
    bridges_folder: Path | None = None
    spaces: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.spaces = tuple(self.catalog.spaces()) if self.catalog else ()

    def bridge_to(self, entry: DecoderEntry) -> bridges.Bridge | None:
        """Return a bridge from one of the library's models to what the decoder takes, None if none was fitted."""
        if not self.bridges_folder:
            return None
        targets = (entry.bridge_target, *entry.other_spaces)
        paths = [bridges.bridge_file(self.bridges_folder, s, target) for s in self.spaces for target in targets]
        return next((bridges.load(path) for path in paths if path.is_file()), None)

    def embedding(self, term: QueryTerm, space: str) -> np.ndarray | None:
        """Return the stored embedding (d,) of an image, None if the library does not have it."""
        return load_embedding(self.catalog, term.content, space) if self.catalog and term.content else None


def plan_routes(
    terms: Sequence[QueryTerm],
    entry: DecoderEntry,
    source: LibrarySource,
    *,
    preference: RoutePreference = "auto",
    named: bool = False,
) -> RoutePlan:
    """Plan the route of every term.

    `preference`: "bridge" sends images over the bridge even if the decoder's image tower is on disk.
    `named`: the user named the decoder, so missing files may be downloaded.
    Raises DecoderNotAvailable, with advice, if there is no route; ClipkitError for a corrupt bridge.
    """
    needs_download, needs_tower = bool(decoder_files.missing_parts(entry)), False
    has_tower = has_image_tower(entry)
    model = "" if has_tower else local_model(entry)
    bridge = source.bridge_to(entry)
    if preference == "bridge" and bridge is None:
        raise DecoderNotAvailable(f"this library has no bridge to {entry.bridge_target}: {_bridge_advice(entry)}")
    own = next((space for space in source.spaces if space in entry.spaces), "")
    routes = []
    for term in terms:
        if not term.is_picture:
            routes.append(TermRoute(term, "prompt") if entry.takes_prompt else TermRoute(term, "prior", own))
        elif preference == "auto" and own:
            stored = source.embedding(term, own) is not None
            routes.append(TermRoute(term, "stored" if stored else "own tower", own))
        elif bridge and (preference == "bridge" or not (has_tower or model)):
            stored = source.embedding(term, bridge.source) is not None
            routes.append(TermRoute(term if stored else replace(term, content=""), "bridge", bridge.source, bridge))
        elif model:
            routes.append(TermRoute(term, "model's tower", model))
        elif has_tower or (named and not entry.folder):
            routes.append(TermRoute(term, "decoder's tower"))
            needs_tower = needs_tower or not has_tower
        else:
            raise DecoderNotAvailable(
                f"the image tower of the decoder {entry.id} is not on this machine: {_bridge_advice(entry)}"
            )
    unconditional_bridge = None
    if _lacks_unconditional_embedding(entry):
        unconditional_bridge = None if has_tower else bridge
        needs_tower = needs_tower or not (has_tower or unconditional_bridge)
    if needs_tower and entry.folder:
        raise DecoderNotAvailable(f"{entry.folder} has no prior/image_encoder, which guidance needs once")
    needs_download = needs_download or needs_tower
    if needs_download and not named:
        raise DecoderNotAvailable(
            f"the decoder {entry.id} is not on this machine: name it with --decoder to download it"
        )
    if needs_download and is_offline():
        decoder_files.download(entry)  # raises, before any note is shown
    return RoutePlan(
        entry=entry,
        routes=tuple(routes),
        notes=tuple(_costs(entry, needs_download=needs_download, needs_tower=needs_tower)),
        needs_download=needs_download,
        needs_tower=needs_tower,
        unconditional_bridge=unconditional_bridge,
    )


def resolve_conditions(
    plan: RoutePlan, source: LibrarySource, images: Sequence[Image | None], device: str
) -> tuple[list[Condition], np.ndarray | None]:
    """Return the conditions for `synthesis.generate_images`, and the unconditional embedding if it is bridged.

    `images`: the decoded image of every route that needs one (`needs_image`), None for the others.
    """
    from clipkit.generation.synthesis import Condition
    from clipkit.models.loading import load_encoder

    def encode(space: str, image: Image) -> np.ndarray:
        encoder = load_encoder(space, device, export=False)
        return encoder.encode_images(encoder.preprocessing.pixels(image)[None])[0]

    conditions = []
    for route, image in zip(plan.routes, images, strict=True):
        value: Any = route.term.value if image is None else image
        if route.space and route.term.is_picture:
            value = encode(route.space, image) if image else source.embedding(route.term, route.space)
        if route.bridge:
            value = route.bridge.apply(value[None])[0]
        conditions.append(Condition(value, route.term.weight))
    bridge = plan.unconditional_bridge
    if bridge is None:
        return conditions, None
    from PIL import Image as images_module

    # An image of the mean colour, which normalisation turns into zeros.
    encoder = load_encoder(bridge.source, device, export=False)
    colour = tuple(round(255 * value) for value in encoder.preprocessing.mean)
    embedding = encode(bridge.source, images_module.new("RGB", (64, 64), colour))
    return conditions, bridge.apply(embedding[None])[0]


def needs_image(route: TermRoute) -> bool:
    """Return whether a route starts from the pixels of its image."""
    if not route.term.is_picture or route.method == "stored":
        return False
    return not (route.method == "bridge" and route.term.content)


def has_image_tower(entry: DecoderEntry) -> bool:
    """Return whether the decoder's image tower is on disk."""
    if has_trained_prior(entry):
        return bool(entry.space) and is_here(ModelRef.of(entry.space))
    return decoder_files.image_tower_folder(entry) is not None


def _lacks_unconditional_embedding(entry: DecoderEntry) -> bool:
    return (
        entry.family == "kandinsky-2-2"
        and not has_trained_prior(entry)
        and decoder_files.cached_unconditional_embedding(entry) is None
    )


def _bridge_advice(entry: DecoderEntry) -> str:
    return f"fit a bridge with `clipkit bridge fit --to {entry.name}`"


def _costs(entry: DecoderEntry, *, needs_download: bool, needs_tower: bool) -> list[str]:
    lines = []
    if needs_download:
        size = entry.download_size(with_tower=needs_tower)
        lines.append(f"downloading the decoder {entry.id} first, about {size}")
    if entry.memory_gb:
        lines.append(
            f"the decoder {entry.id} needs about {entry.memory_gb:g} GB of GPU memory on CUDA, twice that elsewhere"
        )
    return lines
