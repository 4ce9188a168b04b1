"""The decoders that clipkit knows, and which of them can work on this machine at once."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from clipkit.errors import DecoderNotAvailable

BUNDLED = Path(__file__).parent.parent / "bundled"
RECOMMENDED = "kandinsky-2-2"
"""For photographs: it makes pictures of words by a prior of its own, whatever the library's space."""


@dataclass(frozen=True)
class DecoderEntry:
    """A decoder and what it needs.

    `space`: the id of the space whose image embeddings it takes. It lies in `folder`, or is the hub's `repository`
    with the prior in `prior`. `also`: ids of other spaces with the same image embeddings. `family`: what it is, and so
    which module of this room runs it. `adapter`: an IP-Adapter's repository, `adapter_file` its weights there, or below
    `folder`; its image tower lies in `image_encoder` beside them. `size`: side of its pictures in pixels; `steps` and
    `guidance`: what it does best with. `native`: the one side in pixels that its UNet makes, which is then enlarged; 0
    if it makes any. `temperature`: standard deviation of the initial latents, in units of the scheduler's; below 1
    trades diversity for fidelity. `download_gb`, of which `tower_gb` for the image tower, and `memory_gb`, of a CUDA
    device in half precision, are about.
    """

    id: str
    space: str
    size: int
    steps: int
    guidance: float
    family: str = "kandinsky-2-2"
    also: tuple[str, ...] = ()
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
        """The spaces whose image embeddings it takes; none if a folder does not say."""
        return (*((self.space,) if self.space else ()), *self.also)

    @property
    def name(self) -> str:
        """What the user calls it: its id, or the folder of one that is not listed."""
        return self.id if self in entries() else str(self.folder)

    @property
    def target(self) -> str:
        """What bridges to it are called: its space, or its folder if that does not say."""
        return self.space or str(self.folder)

    @property
    def reads_words(self) -> bool:
        """Whether words are its own prompt; else a prior makes image embeddings of them."""
        return self.family in ("ip-adapter", "stable-unclip")

    def download(self, *, tower: bool) -> str:
        """What a download costs, with its image tower or without, for people."""
        return f"{self.download_gb - (0 if tower else self.tower_gb):.3g} GB"

    def to_json(self) -> dict:
        """Plain data, as `clipkit decoders list --json` prints it."""
        fields = asdict(self) | {"folder": str(self.folder) if self.folder else None, "also": list(self.also)}
        return fields | {"on_disk": on_disk(self)}


FAMILIES = {
    "KandinskyV22Pipeline": "kandinsky-2-2",
    "StableDiffusionPipeline": "ip-adapter",
    "StableDiffusionXLPipeline": "ip-adapter",
    "StableUnCLIPImg2ImgPipeline": "stable-unclip",
    "StableUnCLIPPipeline": "stable-unclip",
}
"""diffusers' name of a pipeline -> the family that runs it."""

_DEFAULTS = {"kandinsky-2-2": (512, 50, 4.0), "ip-adapter": (512, 30, 7.5), "stable-unclip": (768, 25, 10.0)}
_SAID = (
    "size",
    "steps",
    "guidance",
    "native",
    "temperature",
    "licence",
    "note",
    "family",
    "adapter_file",
    "memory_gb",
)


@cache
def entries() -> tuple[DecoderEntry, ...]:
    """All that `decoders.toml` lists, in its order."""
    rows = tomllib.loads((Path(__file__).parent / "decoders.toml").read_text("utf-8"))["decoder"]
    return tuple(
        DecoderEntry(
            **row
            | {"also": tuple(row.get("also", ()))}
            | ({"folder": BUNDLED / row["folder"]} if "folder" in row else {})
        )
        for row in rows
    )


def find(name: str) -> DecoderEntry:
    """The decoder of that id, or in that folder.

    A folder holds a decoder as diffusers saves it (for Kandinsky 2.2 with its prior in `prior/`, for an IP-Adapter with
    the adapter's weights and `image_encoder/` somewhere below), and a `clipkit.json` that may say `space`, `family`,
    `size`, `native`, `steps`, `guidance`, `temperature`, `memory_gb` and `adapter_file`. Raises DecoderNotAvailable.
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
        says = folder / "clipkit.json"
        facts = json.loads(says.read_text("utf-8")) if says.is_file() else {}
        chosen = {key: value for key, value in facts.items() if key in _SAID}
        family = chosen.setdefault("family", FAMILIES.get(pipeline, "kandinsky-2-2"))
        size, steps, guidance = _DEFAULTS[family]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DecoderNotAvailable(
            f"what {folder} says of itself makes no sense ({error!r}): its family is one of {', '.join(_DEFAULTS)}"
        ) from error
    plain = DecoderEntry(
        id=folder.name, space=_space(facts.get("space", ""), folder), folder=folder, size=size, steps=steps,
        guidance=guidance,
    )  # fmt: skip
    return replace(plain, **chosen)


def _space(said: str, folder: Path) -> str:
    """A space's id as libraries have it; one that is a folder may be named from the decoder's."""
    from clipkit.models.reference import ModelRef

    beside = folder / said
    if not said:
        return ""
    return ModelRef.resolve(str(beside) if said.startswith(".") and beside.is_dir() else said).id


def for_spaces(*spaces: str) -> DecoderEntry:
    """The decoder for a library of these spaces, the first before the others.

    One that takes its embeddings and is here, else any that takes them; else, by way of the words, one for photographs
    that is here, or the recommended one.
    """
    taking = [entry for space in spaces for entry in entries() if space in entry.spaces]
    here = [entry for entry in taking if on_disk(entry)]
    if taking:
        return [*here, *taking][0]
    recommended = find(RECOMMENDED)
    return next((e for e in (recommended, *entries()) if not e.folder and on_disk(e)), recommended)


def on_disk(entry: DecoderEntry) -> bool:
    """Whether all that it needs to make pictures of words is on this machine."""
    from clipkit.generation import decoder_files

    return not decoder_files.missing(entry)


def why_not_now(entry: DecoderEntry) -> str:
    """Why it cannot make a picture at once, and how to go ahead; empty if it can.

    That is the question before a picture is made that nobody asked for by name: nothing is downloaded then, and nothing
    is begun that takes minutes.
    """
    if not on_disk(entry):
        if entry.folder:
            return f"the decoder {entry.id} is not installed"
        size = entry.download(tower=not entry.reads_words)
        return (
            f"the decoder {entry.id} would make it, but is not on this machine; "
            f"`clipkit generate --decoder {entry.id} TEXT` downloads {size} and does"
        )
    if entry.memory_gb:
        import torch

        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            return (
                f"the decoder {entry.id} would take minutes without a GPU; "
                f"`clipkit generate --decoder {entry.id} TEXT` makes it all the same"
            )
    return ""
