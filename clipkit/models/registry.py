"""Which spaces there are: data in `registry.toml`, and what the id of any other space says."""

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
    """A space that clipkit knows by name.

    `id` is open_clip's "NAME/TAG" (or "tiny"). `hub` and `file`: the hub's repository and the weights in it; a file
    that is no safetensors is a pickle. `tokenizer`: the repository of the tokenizer's files, empty where open_clip's
    own byte-pair encoding serves; `text_model`: that of the text tower's configuration, where transformers builds it.
    `dimension` of the vectors, `image_size` in pixels a side. `megabytes` is what a
    download costs; 0 for what comes with the package. `imagenet_zero_shot` (top-1) and `coco_text_to_image_r1`
    (recall@1) are percentages as published, None where none are; `registry.toml` says by whom. `decoders`: ids of the
    decoders that turn this space's image vectors into pictures.
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
    decoders: tuple[str, ...] = ()
    recommended: bool = False

    @property
    def open_clip_name(self) -> str:
        """open_clip's name of the architecture; empty for the bundled space."""
        return "" if self.bundled else self.id.partition("/")[0]

    @property
    def tag(self) -> str:
        """open_clip's name of the weights; empty for the bundled space."""
        return self.id.partition("/")[2]

    @property
    def folder(self) -> Path | None:
        """The folder of its files if they come with the package."""
        return BUNDLED / self.bundled if self.bundled else None

    def to_json(self) -> dict:
        """Plain data, as `clipkit models list --json` prints it."""
        fields = asdict(self)
        del fields["bundled"]
        if self.bundled:
            del fields["file"]
        return {**fields, "open_clip_name": self.open_clip_name, "tag": self.tag, "decoders": list(self.decoders)}


@cache
def entries() -> tuple[ModelEntry, ...]:
    """All spaces of the registry, in its order."""
    rows = tomllib.loads((Path(__file__).parent / "registry.toml").read_text("utf-8"))["space"]
    return tuple(ModelEntry(**{**row, "decoders": tuple(row.get("decoders", ()))}) for row in rows)


def entry(space_id: str) -> ModelEntry | None:
    """The registry's entry of that id, or None: other ids can still be loaded."""
    return next((e for e in entries() if e.id == space_id), None)


def recommended() -> ModelEntry:
    """The space that a library of photographs starts with where none is named."""
    return next(e for e in entries() if e.recommended)


def checkpoint_folder(space_id: str) -> Path | None:
    """The local folder of a space's configuration and weights: bundled, or named by its path; None if it is neither."""
    known = entry(space_id)
    if known:
        return known.folder
    folder = Path(space_id).expanduser()
    return folder.resolve() if (folder / CONFIG).is_file() else None


def canonical_id(space_id: str) -> str:
    """The id under which a library keeps a space.

    A checkpoint folder goes by its absolute path; a tag of open_clip in its own spelling (open_clip takes "-" for "_"
    and capitals); all others are as they are.
    """
    if entry(space_id):
        return space_id
    folder = checkpoint_folder(space_id)
    return str(folder) if folder else in_open_clips_spelling(space_id)


def in_open_clips_spelling(space_id: str) -> str:
    """A NAME/TAG with the tag as open_clip's table has it; any other id as it is."""
    name, slash, tag = space_id.partition("/")
    if not slash or "/" in tag or "\\" in tag or ":" in name:
        return space_id
    return f"{name}/{tag.lower().replace('-', '_')}"
