"""Where the ONNX forms of spaces lie, which of them is current, and how one is put in place.

A space that was exported has a folder in the user's cache: graphs, their weights, and `manifest.json`, which names
them and is written last. A checkpoint folder may instead carry graphs without weights; see `onnx_weightless`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from clipkit.atomic import atomic_write
from clipkit.errors import ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.registry import canonical_id

FORMAT = 2
"""Raised whenever exports are made in another way: older ones are then made anew."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Exported:
    """An export as its manifest tells it.

    `facts`: what the encoder needs to know of the space. `weights`: digest of the model's parameters. `files`: sizes
    in bytes by name. `refused`: why the space is not used in ONNX, or empty. `image_rates`: pictures a second on this
    machine's CPU, of torch and of ONNX Runtime; empty if they were not measured. `int8`: the towers that are stored in
    8 bits, with the recall that let them pass. `versions`: of the libraries that made it.
    """

    folder: Path
    space: str
    weights: str
    facts: dict
    files: dict[str, int]
    refused: str = ""
    image_rates: tuple[float, ...] = ()
    cosines: dict | None = None
    int8: dict | None = None
    source: tuple | None = None
    versions: dict | None = None
    format: int = FORMAT

    @property
    def faster(self) -> bool:
        """Whether ONNX Runtime's image tower is to be used for indexing on the CPU; at a tie, for its quick start."""
        return not self.image_rates or self.image_rates[1] >= 0.95 * self.image_rates[0]

    @property
    def preprocessing(self) -> Preprocessing:
        """As the model wants its pictures."""
        return preprocessing_from(self.facts["preprocessing"])

    def to_json(self) -> dict:
        """What the manifest holds."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def preprocessing_from(values: dict) -> Preprocessing:
    """From plain data, whose lists stand for tuples."""
    return Preprocessing(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def cache() -> Path:
    """The folder of all exports, in the user's cache."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipkit")) / "onnx"


def folder_of(space: str) -> Path:
    """The folder of the exports of a space, whether there is one or not."""
    space = canonical_id(space)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", space.replace("/", "--"))[-60:].strip("-.")
    return cache() / f"{readable}-{hashlib.sha256(space.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"


def find(space: str) -> Exported | None:
    """The export of a space that is current and whole, refused or not; None if it must be made."""
    folder = folder_of(space)
    try:
        values = json.loads((folder / MANIFEST).read_text("utf-8"))
        exported = Exported(folder, **values)
        whole = all((folder / name).stat().st_size == size for name, size in exported.files.items())
    except (OSError, ValueError, TypeError):
        return None
    if not whole or exported.format != FORMAT or exported.space != canonical_id(space):
        return None
    if exported.refused and exported.versions != library_versions():
        return None  # what one version of torch cannot export, another may
    # The file that it was made from is looked at, not looked for: open_clip's table of names is slow to import. Where
    # it is no longer on disk the export goes on serving: it is of the model that the vectors are of.
    now = stamp(Path(exported.source[0])) if exported.source else None
    return exported if now is None or list(exported.source or ()) == list(now) else None


def remove(space: str) -> None:
    """Deletes the export of a space, if there is one."""
    shutil.rmtree(folder_of(space), ignore_errors=True)


def library_versions() -> dict[str, str]:
    """Of what exports and runs graphs."""
    return {name: version(name) for name in ("torch", "onnxscript", "onnxruntime")}


def weights_file(space: str) -> Path | None:
    """The file that a space is loaded from; None if it is not on this disk, or in a form that clipkit does not load."""
    from clipkit.models.hub.locating import locate

    try:
        return locate(space).weights
    except ModelNotAvailable:
        return None


def stamp(path: Path | None) -> tuple[str, int, int] | None:
    """Path, size and time of change of a checkpoint: what tells at a glance that it is another one."""
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return (str(path), status.st_size, status.st_mtime_ns) if status else None


@contextmanager
def exporting(space: str, *, needed: int, wait: bool) -> Iterator[Path | None]:
    """A new, empty folder beside the export, for one process at a time; None if another one is at it and not `wait`.

    What interrupted runs left is cleared away. Raises OSError if the cache cannot be written, or holds less than
    `needed` bytes.
    """
    from filelock import FileLock, Timeout

    folder = folder_of(space)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield None
        return
    try:
        for leftover in folder.glob("unfinished-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder))
        try:
            free = shutil.disk_usage(unfinished).free
            if free < needed:
                raise OSError(f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    finally:
        lock.release()


def publish(exported: Exported, made: Path) -> Exported:
    """Moves the files in `made` into the folder of the export and makes them current; hold `exporting`.

    Names must not be those of the current export, which other processes may be reading; it is deleted afterwards.
    """
    folder = exported.folder
    files = {path.name: path.stat().st_size for path in made.iterdir()}
    kept = {name: size for name, size in exported.files.items() if name not in files}
    exported = replace(exported, files={**kept, **files})
    for name in files:
        _sync(made / name)
        os.replace(made / name, folder / name)
    with atomic_write(folder / MANIFEST) as file:
        file.write(json.dumps(exported.to_json(), indent=1).encode())
    for path in folder.iterdir():
        if path.name not in exported.files and path.name not in (MANIFEST, "lock") and path.is_file():
            with contextlib.suppress(OSError):  # Windows keeps what a reader has mapped; the next export sweeps it
                path.unlink()
    return exported


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
