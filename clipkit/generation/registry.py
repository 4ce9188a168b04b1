"""The decoders that clipkit knows, as data, and the resolution of a user's string to one. Asks for no weights."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from clipkit.errors import DecoderNotAvailable
from clipkit.models.registry import BUNDLED

RECOMMENDED = "kandinsky-2-2"
"""For photographs: its own prior takes text, so it suits a library of any model."""


@dataclass(frozen=True)
class DecoderEntry:
    """A decoder and what it needs.

    `space`: the model whose image embeddings it takes; `other_spaces` have the same image embeddings.
    `inpaints_only`: whether it only paints the masked part of a picture, and generates none from nothing.
    `inpainter`: the id of the decoder that does that in its place.
    `family`: decides the module in `clipkit.generation` that implements it; see `loading.py`.
    `folder`: where its files are; otherwise they come from `repository` on the hub, and the prior from `prior`.
    `adapter`: the repository of an IP-Adapter; `adapter_file`: its weights there, or below `folder`.
    `size`: side of its pictures in pixels. `steps`, `guidance`: defaults.
    `native`: the only size that its UNet generates, which is then enlarged; 0 if it generates any.
    `temperature`: standard deviation of the initial latents, in units of the scheduler's; below 1 trades diversity for
    fidelity.
    `download_gb`: download size, of which `tower_gb` is the image tower.
    `memory_gb`: approximate memory of a CUDA device needed in half precision.
    """

    id: str
    space: str
    size: int
    steps: int
    guidance: float
    family: str = "kandinsky-2-2"
    other_spaces: tuple[str, ...] = ()
    inpaints_only: bool = False
    inpainter: str = ""
    native: int = 0
    temperature: float = 1.0
    licence: str = ""
    note: str = ""
    folder: Path | None = None
    repository: str = ""
    prior: str = ""
    adapter: str = ""
    adapter_file: str = ""
    download_gb: float = 0.0
    tower_gb: float = 0.0
    memory_gb: float = 0.0

    @property
    def spaces(self) -> tuple[str, ...]:
        """The models whose image embeddings it takes; empty if a folder does not name one."""
        return (*((self.space,) if self.space else ()), *self.other_spaces)

    @property
    def name(self) -> str:
        """What the user calls it: its id, or its folder if it is not listed."""
        return self.id if self in entries() else str(self.folder)

    @property
    def bridge_target(self) -> str:
        """The target recorded in bridges to it: its model, or its folder if it does not name one."""
        return self.space or str(self.folder)

    @property
    def takes_prompt(self) -> bool:
        """Whether text goes to the decoder as a prompt; otherwise a prior maps text to image embeddings."""
        return self.family in ("ip-adapter", "stable-unclip")

    @property
    def keeps_layout(self) -> bool:
        """Whether it can start from a picture instead of noise."""
        return self.family != "stable-unclip"

    @property
    def weighs_prompt(self) -> bool:
        """Whether it takes a prompt, and a weight of the prompt against images."""
        return self.family == "ip-adapter"

    def download_size(self, *, with_tower: bool) -> str:
        """Return the size of the download for display, with or without the image tower."""
        return f"{self.download_gb - (0 if with_tower else self.tower_gb):.3g} GB"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        fields = asdict(self) | {"folder": str(self.folder) if self.folder else None}
        return fields | {"model": fields.pop("space"), "other_models": list(fields.pop("other_spaces"))}


FAMILIES = {
    "KandinskyV22Pipeline": "kandinsky-2-2",
    "KandinskyV22InpaintPipeline": "kandinsky-2-2",
    "StableDiffusionInpaintPipeline": "ip-adapter",
    "StableDiffusionXLInpaintPipeline": "ip-adapter",
    "StableDiffusionPipeline": "ip-adapter",
    "StableDiffusionXLPipeline": "ip-adapter",
    "StableUnCLIPImg2ImgPipeline": "stable-unclip",
    "StableUnCLIPPipeline": "stable-unclip",
}
"""Class of a diffusers pipeline -> family."""

_DEFAULTS = {"kandinsky-2-2": (512, 50, 4.0), "ip-adapter": (512, 30, 7.5), "stable-unclip": (768, 25, 10.0)}
"""Family -> size, steps and guidance of folders that do not set them."""

_FOLDER_KEYS = {
    *("size", "native", "steps", "guidance", "temperature"),
    *("family", "adapter_file", "memory_gb", "licence", "note"),
}
"""What a folder's clipkit.json may set, besides `space`."""


@cache
def entries() -> tuple[DecoderEntry, ...]:
    """Return the decoders in `decoders.toml`, in its order; one with a folder is described by its clipkit.json too."""
    rows = tomllib.loads((Path(__file__).parent / "decoders.toml").read_text("utf-8"))["decoder"]
    for row in rows:
        row["other_spaces"] = tuple(row.get("other_spaces", ()))
        if "folder" in row:
            row["folder"] = BUNDLED / row["folder"]
            facts = _read_facts(row["folder"])
            row |= {key: value for key, value in facts.items() if key in _FOLDER_KEYS}
    return tuple(DecoderEntry(**row) for row in rows)


def resolve_decoder(name: str) -> DecoderEntry:
    """Return the decoder with this id, or in this folder.

    A folder holds a decoder as diffusers saves it: Kandinsky 2.2 with its prior in `prior/`, an IP-Adapter with the
    adapter's weights and `image_encoder/` in it. Its `clipkit.json` may set `space`, `family`, `size`, `native`,
    `steps`, `guidance`, `temperature`, `memory_gb` and `adapter_file`. Raises DecoderNotAvailable.
    """
    for entry in entries():
        if entry.id == name:
            return entry
    folder = Path(name).expanduser().absolute()
    if not (folder / "model_index.json").is_file():
        known = ", ".join(entry.id for entry in entries())
        raise DecoderNotAvailable(
            f"there is no decoder {name!r}: give one of {known}, or a folder with a model_index.json"
        )
    try:
        pipeline = json.loads((folder / "model_index.json").read_text("utf-8")).get("_class_name", "")
        facts = _read_facts(folder)
        chosen = {key: value for key, value in facts.items() if key in _FOLDER_KEYS}
        family = chosen.setdefault("family", FAMILIES.get(pipeline, "kandinsky-2-2"))
        size, steps, guidance = _DEFAULTS[family]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DecoderNotAvailable(
            f"cannot read the description of the decoder in {folder} ({error!r}); its family must be one of "
            + ", ".join(_DEFAULTS)
        ) from error
    plain = DecoderEntry(
        id=folder.name,
        space=_resolve_space(facts.get("space", ""), folder),
        folder=folder,
        size=size,
        steps=steps,
        guidance=guidance,
        inpaints_only=pipeline.endswith("InpaintPipeline"),
    )
    return replace(plain, **chosen)


def _read_facts(folder: Path) -> dict[str, Any]:
    """Return what a folder's clipkit.json says, nothing if it has none."""
    file = folder / "clipkit.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def _resolve_space(name: str, folder: Path) -> str:
    """Return the canonical id of a model; a name that starts with "." is a path relative to the decoder's folder."""
    from clipkit.models.reference import ModelRef

    if not name:
        return ""
    relative = folder / name
    return ModelRef.resolve(str(relative) if name.startswith(".") and relative.is_dir() else name).id
