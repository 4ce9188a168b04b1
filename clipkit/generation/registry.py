"""The decoders that clipkit knows, and which of them can work on this machine at once."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from clipkit.errors import DecoderNotAvailable

BUNDLED = Path(__file__).parent.parent / "bundled"


@dataclass(frozen=True)
class DecoderEntry:
    """A decoder and what it needs.

    `space`: the id of the space whose image embeddings it takes. It lies in `folder`, or is the hub's `repository`
    with the prior in `prior`. `size`: side of its pictures in pixels; `steps` and `guidance`: what it does best with.
    `native`: the one side in pixels that its UNet makes, which is then enlarged; 0 if it makes any.
    """

    id: str
    space: str
    size: int
    steps: int
    guidance: float
    native: int = 0
    licence: str = ""
    note: str = ""
    folder: Path | None = None
    repository: str = ""
    prior: str = ""
    download_gb: float = 0.0
    memory_gb: float = 0.0


@cache
def entries() -> tuple[DecoderEntry, ...]:
    """All that `decoders.toml` lists, in its order."""
    rows = tomllib.loads((Path(__file__).parent / "decoders.toml").read_text("utf-8"))["decoder"]
    return tuple(DecoderEntry(**row | ({"folder": BUNDLED / row["folder"]} if "folder" in row else {})) for row in rows)


def find(name: str) -> DecoderEntry:
    """The decoder of that id, or in that folder.

    A folder holds a Kandinsky 2.2 decoder as diffusers saves it, its prior in `prior/`, and a `clipkit.json` that may
    say `space`, `size`, `native`, `steps` and `guidance`. Raises DecoderNotAvailable.
    """
    for entry in entries():
        if entry.id == name:
            return entry
    folder = Path(name).expanduser()
    if not (folder / "model_index.json").is_file():
        known = ", ".join(entry.id for entry in entries())
        raise DecoderNotAvailable(
            f"there is no decoder {name!r}: give one of {known}, or a folder with a model_index.json"
        )
    says = folder / "clipkit.json"
    facts = json.loads(says.read_text("utf-8")) if says.is_file() else {}
    plain = DecoderEntry(id=folder.name, space=facts.pop("space", ""), folder=folder, size=512, steps=50, guidance=4.0)
    known_fields = {k: v for k, v in facts.items() if k in ("size", "steps", "guidance", "native", "licence", "note")}
    return replace(plain, **known_fields)


def for_space(space: str) -> DecoderEntry:
    """The decoder that takes the space's embeddings, or the one recommended for words. Raises DecoderNotAvailable."""
    for entry in entries():
        if entry.space == space:
            return entry
    return find("kandinsky-2-2")


def on_disk(entry: DecoderEntry) -> bool:
    """Whether all of its files are on this machine."""
    if entry.folder:
        return (entry.folder / "model_index.json").is_file()
    from huggingface_hub import try_to_load_from_cache

    return all(
        isinstance(try_to_load_from_cache(repository, "model_index.json"), str)
        for repository in (entry.repository, entry.prior)
    )


def why_not_now(entry: DecoderEntry) -> str:
    """Why it cannot make a picture at once, and how to go ahead; empty if it can.

    That is the question before a picture is made that nobody asked for by name: nothing is downloaded then, and nothing
    is begun that takes minutes.
    """
    if not on_disk(entry):
        if entry.folder:
            return f"the decoder {entry.id} is not installed"
        return (
            f"the decoder {entry.id} would make it, but is not on this machine; "
            f"`clipkit generate --decoder {entry.id} TEXT` downloads {entry.download_gb:g} GB and does"
        )
    if entry.memory_gb:
        import torch

        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            return (
                f"the decoder {entry.id} would take minutes without a GPU; "
                f"`clipkit generate --decoder {entry.id} TEXT` makes it all the same"
            )
    return ""
