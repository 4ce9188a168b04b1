"""The upscalers that clipkit knows, as data: where their files are, their download, and which one to take."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clipkit.errors import DecoderNotAvailable, DownloadFailed
from clipkit.models.hub.cache import is_offline, repository_folder
from clipkit.models.registry import BUNDLED
from clipkit.progress import ProgressCallback

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The files of a Swin2SR network."""


@dataclass(frozen=True)
class UpscalerEntry:
    """A network that enlarges pictures, or Lanczos resampling, which is none.

    `factor`: how much larger it makes a picture at a time.
    `folder`: where its files are; otherwise they come from `repository` on the hub, at the commit `revision`.
    `download_mb`: download size in MB of 1,000,000 bytes.
    """

    id: str
    factor: int
    licence: str = ""
    note: str = ""
    folder: Path | None = None
    repository: str = ""
    revision: str = ""
    download_mb: float = 0.0

    @property
    def name(self) -> str:
        """What the user calls it: its id, or its folder if it is not listed."""
        return self.id if self == LANCZOS or self in entries() else str(self.folder)

    @property
    def invents(self) -> bool:
        """Whether a trained model fills in detail; Lanczos resampling only interpolates."""
        return self != LANCZOS

    @property
    def draws(self) -> bool:
        """Whether it is the bundled one, which knows drawn scenes only."""
        return self.id == "tiny"

    def files(self) -> Path:
        """Return the folder with its files. Raises DecoderNotAvailable if they are not on this machine."""
        if self.folder:
            return self.folder
        folder = repository_folder(self.repository) / "snapshots" / self.revision
        if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
            raise DecoderNotAvailable(f"the upscaler {self.id} is not on this machine: {how_to_get(self)}")
        return folder

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"folder": str(self.folder) if self.folder else None}


LANCZOS = UpscalerEntry(id="lanczos", factor=4, note="interpolation, which invents nothing; only by name")


@cache
def entries() -> tuple[UpscalerEntry, ...]:
    """Return the networks in `upscalers.toml`, in its order."""
    rows = tomllib.loads((Path(__file__).parent / "upscalers.toml").read_text("utf-8"))["upscaler"]
    for row in rows:
        if "folder" in row:
            row["folder"] = BUNDLED / row["folder"]
    return tuple(UpscalerEntry(**row) for row in rows)


def published() -> tuple[UpscalerEntry, ...]:
    """Return those that can be downloaded."""
    return tuple(entry for entry in entries() if entry.repository)


def on_disk(entry: UpscalerEntry) -> bool:
    """Return whether its files are on this machine."""
    try:
        entry.files()
    except DecoderNotAvailable:
        return False
    return True


def resolve_upscaler(name: str) -> UpscalerEntry:
    """Return the upscaler with this id, or the Swin2SR network in this folder. Raises DecoderNotAvailable."""
    for entry in (*entries(), LANCZOS):
        if entry.id == name:
            return entry
    folder = Path(name).expanduser().absolute()
    if not (folder / CONFIG).is_file():
        known = ", ".join(entry.id for entry in (*entries(), LANCZOS))
        raise DecoderNotAvailable(f"there is no upscaler {name!r}: give one of {known}, or a folder with a {CONFIG}")
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        kind, factor = config.get("model_type"), int(config.get("upscale", 2))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DecoderNotAvailable(f"cannot read {folder / CONFIG} ({error!r})") from error
    if kind != "swin2sr" or factor < 2:
        raise DecoderNotAvailable(f"{folder} has no network that enlarges pictures: Swin2SR is the kind to use")
    return UpscalerEntry(id=folder.name, factor=factor, folder=folder)


def choose_upscaler(named: str | None, *, drawn: bool, enlargement: float | None = None) -> UpscalerEntry:
    """Return the upscaler that is named, or the one on this machine that fits; Lanczos only if it is named.

    `drawn`: whether the picture is one of the bundled model's drawn scenes.
    `enlargement`: the factor that is wanted; the network with the smallest factor that suffices is taken.
    Raises DecoderNotAvailable.
    """
    if named:
        entry = resolve_upscaler(named)
        if entry.invents:
            entry.files()
        return entry
    if drawn:
        return next(entry for entry in entries() if entry.draws)
    found = sorted((entry for entry in published() if on_disk(entry)), key=lambda entry: entry.factor)
    if not found:
        choices = ", ".join(entry.id for entry in published())
        raise DecoderNotAvailable(
            f"no upscaler for photographs is on this machine ({choices}): {how_to_get(published()[0])}, or name "
            "--upscaler lanczos, which invents no detail"
        )
    return next((entry for entry in found if enlargement and entry.factor >= enlargement), found[-1])


def how_to_get(entry: UpscalerEntry) -> str:
    """Return, as part of a sentence, the command that downloads an upscaler."""
    return f"`clipkit decoders pull {entry.id}` downloads {entry.download_mb:g} MB"


def download(entry: UpscalerEntry, progress: ProgressCallback | None = None) -> None:
    """Download an upscaler's files; an interrupted download resumes, and checksums are verified.

    Raises DecoderNotAvailable.
    """
    from clipkit.models.hub import downloading

    if is_offline():
        raise DecoderNotAvailable(
            f"the upscaler {entry.id} is not on this machine, and HF_HUB_OFFLINE forbids downloads: unset it, or name "
            "a FOLDER with its files as --upscaler"
        )
    try:
        with downloading.translate_download_errors(f"upscaler {entry.id}", "name a FOLDER with its files"):
            files = {file.name: file for file in downloading.listing(entry.repository, entry.revision)}
            if absent := [name for name in (CONFIG, WEIGHTS) if name not in files]:
                raise DecoderNotAvailable(f"{entry.repository} has no {absent[0]}")
            wanted = [files[name] for name in (CONFIG, WEIGHTS)]
            downloading.download_all(wanted, f"the upscaler {entry.id}", progress, set_main=False)
    except DownloadFailed as error:
        raise DecoderNotAvailable(str(error)) from error
