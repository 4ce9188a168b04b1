"""Where libraries live, and where the parts of one lie on disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from clipkit.errors import ClipkitError


def library_folder(name: str = "default", indexes: Path | None = None) -> Path:
    """Return the folder of the library `name`, absolute; it need not exist.

    It is below `indexes`, else $CLIPKIT_INDEXES, else ./indexes if that exists, else the user's data folder.
    Raises ClipkitError if `name` is not a plain folder name.
    """
    if not name or name in (".", "..") or set(name) & set("/\\:\0"):
        raise ClipkitError(f"{name!r} cannot be the name of a library: use letters, digits, - and _")
    folder = indexes if indexes is not None else _default_indexes()
    return folder.expanduser().absolute() / name


def _default_indexes() -> Path:
    if variable := os.environ.get("CLIPKIT_INDEXES"):
        return Path(variable)
    if Path("indexes").is_dir():
        return Path("indexes")
    import platformdirs

    return Path(platformdirs.user_data_dir("clipkit", appauthor=False)) / "indexes"


@dataclass(frozen=True)
class Layout:
    """The paths of a library's parts below `folder`, which is absolute."""

    folder: Path

    @property
    def name(self) -> str:
        """The library's name."""
        return self.folder.name

    @property
    def catalog(self) -> Path:
        """The SQLite database."""
        return self.folder / "catalog.db"

    @property
    def locks(self) -> tuple[Path, ...]:
        """The lock files of `Catalog`: for writing and for migrations."""
        return tuple(self.catalog.with_suffix(suffix) for suffix in (".lock", ".migrating"))

    def vectors(self, space: str) -> Path:
        """Return the folder of a space's search index and match statistics; the space's id is percent-encoded."""
        return self.folder / "vectors" / quote(space, safe="-_.")

    def match_statistics(self, space: str) -> Path:
        """Return the file with the statistics of a space's match decision."""
        return self.vectors(space) / "matcher.npz"

    @property
    def generated(self) -> Path:
        """The folder of generated and edited pictures."""
        return self.folder / "generated"

    @property
    def bridges(self) -> Path:
        """The folder of fitted bridges."""
        return self.folder / "bridges"

    def delete_contents(self) -> None:
        """Delete everything but the locks: hold the write lock, with the catalog closed."""
        for folder in (self.folder / "vectors", self.generated, self.bridges):
            shutil.rmtree(folder, ignore_errors=True)
        for suffix in ("", "-wal", "-shm"):
            self.catalog.with_name(self.catalog.name + suffix).unlink(missing_ok=True)

    def delete_locks(self) -> None:
        """Delete the lock files, once released, and the folder if nothing else is in it."""
        for lock in self.locks:
            lock.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
