"""The models that clipkit knows by name, as listed in `registry.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

BUNDLED = Path(__file__).parent.parent / "bundled"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
HUB_PREFIX = "hf-hub:"


@dataclass(frozen=True)
class ModelEntry:
    """A model that clipkit knows by name.

    id: open_clip's "NAME/TAG", or "tiny".
    dimension: of the vectors.
    image_size: pixels a side.
    megabytes: size of the download in MB of 1,000,000 bytes; 0 for the bundled model.
    bundled: folder of the files below `clipkit/bundled`, or empty.
    hub: repository of the weights on the model hub.
    file: name of the weights in it; anything but safetensors is a pickle.
    tokenizer: repository of the tokenizer's files; empty for open_clip's own byte-pair encoding.
    text_model: repository of the configuration of a text tower that transformers builds, or empty.
    imagenet_zero_shot: top-1 accuracy in percent, as published (sources in `registry.toml`), or None.
    coco_text_to_image_r1: recall@1 in percent, likewise.
    plain_clip: whether the architecture and the preprocessing are OpenAI's, without special settings.
    quick_gelu: whether the weights need QuickGELU, which the architecture's name does not say.
    decoders: ids of the decoders that take the model's image embeddings.
    """

    id: str
    summary: str
    dimension: int
    image_size: int
    parameters_millions: float
    megabytes: int
    licence: str
    languages: str
    bundled: str = ""
    hub: str = ""
    file: str = WEIGHTS
    tokenizer: str = ""
    text_model: str = ""
    imagenet_zero_shot: float | None = None
    coco_text_to_image_r1: float | None = None
    plain_clip: bool = False
    quick_gelu: bool = False
    decoders: tuple[str, ...] = ()
    recommended: bool = False

    @property
    def open_clip_name(self) -> str:
        """open_clip's name of the architecture; empty for the bundled model."""
        return "" if self.bundled else self.id.partition("/")[0]

    @property
    def tag(self) -> str:
        """open_clip's name of the weights; empty for the bundled model."""
        return self.id.partition("/")[2]

    @property
    def folder(self) -> Path | None:
        """The folder of the bundled model's files; None for all others."""
        return BUNDLED / self.bundled if self.bundled else None

    def to_json(self) -> dict:
        """Return plain data, as `clipkit models list --json` prints it."""
        fields = asdict(self)
        for internal in ("bundled", "plain_clip", "quick_gelu"):
            del fields[internal]
        if self.bundled:
            del fields["file"]
        return {**fields, "open_clip_name": self.open_clip_name, "tag": self.tag, "decoders": list(self.decoders)}


@cache
def entries() -> tuple[ModelEntry, ...]:
    """Return all models of the registry, in its order."""
    rows = tomllib.loads((Path(__file__).parent / "registry.toml").read_text("utf-8"))["model"]
    return tuple(ModelEntry(**{**row, "decoders": tuple(row.get("decoders", ()))}) for row in rows)


def entry(model_id: str) -> ModelEntry | None:
    """Return the registry's entry of an id, or None; models without an entry can still be loaded."""
    return next((e for e in entries() if e.id == model_id), None)


def recommended() -> ModelEntry:
    """Return the model that a new library of photographs uses by default."""
    return next(e for e in entries() if e.recommended)
