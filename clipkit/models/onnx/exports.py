"""The cache of ONNX exports: find the current export of a model, publish a new one.

Each exported model has a folder in the user's cache with graphs, their weights, and `manifest.json`, which names them
and is written last. A checkpoint folder can instead contain graphs without weights, see `shipped`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clipkit.atomic import atomic_write
from clipkit.errors import ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.reference import ModelRef

FORMAT = 3
"""Bump when the export format changes; older exports are rebuilt."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Exported:
    """An export as described by its manifest.

    space: canonical id of the model.
    weights: digest of the model's parameters.
    facts: what the encoder needs to know about the model.
    files: size in bytes by name.
    refused: why the model cannot be used in ONNX Runtime, or empty.
    image_rates: images per second of torch and ONNX Runtime on this machine's CPU; empty if not measured.
    cosines: agreement with torch by tower.
    int8: recall by tower, for the towers stored in 8 bits.
    source: path, size and mtime of the checkpoint, see `file_stamp`.
    versions: of the libraries that made the export.
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
        """Whether to index in ONNX Runtime on the CPU. It also wins a tie, because it starts faster."""
        return not self.image_rates or self.image_rates[1] >= 0.95 * self.image_rates[0]

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the model's images."""
        return preprocessing_from(self.facts["preprocessing"])

    def to_json(self) -> dict:
        """Return the content of the manifest."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def preprocessing_from(values: dict) -> Preprocessing:
    """Build the preprocessing from plain data, in which tuples have become lists."""
    return Preprocessing(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def cache_folder() -> Path:
    """Return the folder of all exports, in the user's cache."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipkit")) / "onnx"


def folder_of(model_id: str) -> Path:
    """Return the folder for the export of a model, which need not exist."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", model_id.replace("/", "--"))[-60:].strip("-.")
    digest = hashlib.sha256(model_id.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / f"{readable}-{digest[:10]}"


def find_export(model_id: str) -> Exported | None:
    """Return the export of a model if it is current and complete, refused or not; None if it has to be made."""
    folder = folder_of(model_id)
    try:
        values = json.loads((folder / MANIFEST).read_text("utf-8"))
        exported = Exported(folder, **values)
        complete = all((folder / name).stat().st_size == size for name, size in exported.files.items())
    except (OSError, ValueError, TypeError):
        return None
    if not complete or exported.format != FORMAT or exported.space != model_id:
        return None
    if exported.refused and exported.versions != library_versions():
        return None  # another version of torch may be able to export it
    # The manifest names the checkpoint, so it need not be located, which would import open_clip and be slow. If the
    # checkpoint has been deleted the export remains valid: the library's vectors are from the same model.
    now = file_stamp(Path(exported.source[0])) if exported.source else None
    return exported if now is None or list(exported.source or ()) == list(now) else None


def remove_export(model_id: str) -> None:
    """Delete the export of a model, if there is one."""
    shutil.rmtree(folder_of(model_id), ignore_errors=True)


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that export and run graphs."""
    from importlib.metadata import version  # slow to import, and needed only for exports that were refused

    return {name: version(name) for name in ("torch", "onnxscript", "onnxruntime")}


def weights_file(model_id: str) -> Path | None:
    """Return the file that a model's weights are loaded from; None if it is not on disk or cannot be loaded."""
    from clipkit.models.hub.locating import locate

    try:
        return locate(ModelRef.of(model_id)).weights
    except ModelNotAvailable:
        return None


def file_stamp(path: Path | None) -> tuple[str, int, int] | None:
    """Return the path, size and mtime (ns) of a file, to detect that it was replaced; None if it does not exist."""
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return (str(path), status.st_size, status.st_mtime_ns) if status else None


@contextmanager
def new_export_folder(model_id: str, *, needed: int, wait: bool) -> Iterator[Path | None]:
    """Lock the export of a model and yield a new, empty folder; leftovers of interrupted runs are deleted.

    If another process holds the lock, wait for it if `wait`, else yield None. Raises OSError if the cache cannot be
    written or has fewer than `needed` bytes free.
    """
    import tempfile

    from filelock import FileLock, Timeout

    folder = folder_of(model_id)
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
                raise OSError(f"{needed / 1e6:,.0f} MB are needed, and {free / 1e6:,.0f} MB are free")
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    finally:
        lock.release()


def publish(exported: Exported, new: Path) -> Exported:
    """Move the files from the `new_export_folder` to their place and make them the current export.

    File names must differ from those of the current export, which other processes may be reading; it is deleted
    afterwards.
    """
    folder = exported.folder
    files = {path.name: path.stat().st_size for path in new.iterdir()}
    kept = {name: size for name, size in exported.files.items() if name not in files}
    exported = replace(exported, files={**kept, **files})
    for name in files:
        _sync(new / name)
        os.replace(new / name, folder / name)
    with atomic_write(folder / MANIFEST) as file:
        file.write(json.dumps(exported.to_json(), indent=1).encode())
    for path in folder.iterdir():
        if path.name not in exported.files and path.name not in (MANIFEST, "lock") and path.is_file():
            with contextlib.suppress(OSError):  # Windows locks mapped files; the next export deletes them
                path.unlink()
    return exported


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
