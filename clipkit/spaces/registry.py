"""Which spaces there are: data in `registry.toml`, and how the id of a space leads to its files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BUNDLED = Path(__file__).parent.parent / "bundled"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


@dataclass(frozen=True)
class SpaceEntry:
    """A space that clipkit knows by name. `megabytes` is what a download costs; 0 for what comes with the package."""

    id: str
    summary: str
    dimension: int
    image_size: int
    parameters_millions: float
    megabytes: int
    licence: str
    languages: str
    bundled: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder of its files if they come with the package."""
        return BUNDLED / self.bundled if self.bundled else None


@cache
def entries() -> tuple[SpaceEntry, ...]:
    """All spaces of the registry, in its order."""
    rows = tomllib.loads((Path(__file__).parent / "registry.toml").read_text("utf-8"))["space"]
    return tuple(SpaceEntry(**row) for row in rows)


def entry(space_id: str) -> SpaceEntry | None:
    """The registry's entry of that id, or None: other ids can still be loaded."""
    return next((e for e in entries() if e.id == space_id), None)


def checkpoint_folder(space_id: str) -> Path | None:
    """The local folder of a space's configuration and weights: bundled, or named by its path; None if it is neither."""
    known = entry(space_id)
    if known and known.folder:
        return known.folder
    folder = Path(space_id).expanduser()
    return folder.resolve() if (folder / CONFIG).is_file() else None


def canonical_id(space_id: str) -> str:
    """The id under which a library keeps a space: a checkpoint folder by its absolute path, others as they are."""
    if entry(space_id):
        return space_id
    folder = checkpoint_folder(space_id)
    return str(folder) if folder else space_id
