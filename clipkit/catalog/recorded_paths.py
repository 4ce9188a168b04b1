"""Resolve a path that a user names to the paths under which the library has recorded it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import where_at_or_below
from clipkit.errors import BadQuery

Identity = tuple[int, int] | str


def recorded_paths(catalog: Catalog, path: Path) -> list[Path]:
    """Return the absolute paths at or below which the library has recorded what is at or below `path`.

    `path` may start with `~`, contain `..`, go through other symlinks than the indexed path, or differ in case on a
    case-insensitive file system: folders are compared by identity. A folder that is missing or on a disconnected drive
    is found only by its recorded name.

    Raises BadQuery if the library has nothing there, unless it is a folder inside an indexed one.
    """
    given = os.path.expanduser(path)
    written = os.path.abspath(given)
    known = _Known()
    wanted = known.identity(given)
    # `..` after a symlink does not lead where the text of the path suggests.
    names = [written] if known.identity(written) == wanted and _records(catalog, Path(written)) else []
    if wanted is not None:
        with contextlib.suppress(OSError):  # it has vanished since
            names += _found(catalog, known, os.path.realpath(given), wanted)
    if names:
        return [Path(name) for name in _outermost(names)]
    if wanted is not None and any(_lies_in(known, given, root) for root, _ in catalog.roots()):
        return [Path(written)]
    raise BadQuery(
        f"the library has no pictures below {written}: `clipkit info` lists its folders, `clipkit index` adds one"
    )


def _lies_in(known: _Known, path: str, root: Path) -> bool:
    identity = known.identity(os.fspath(root))
    return identity is not None and identity in known.line_of(os.path.realpath(path))


def _found(catalog: Catalog, known: _Known, real: str, wanted: Identity) -> Iterator[str]:
    """Yield the recorded folders at or below the wanted folder, or the recorded paths of the wanted file."""
    if stat.S_ISDIR(os.stat(real).st_mode):
        for folder in _folders(catalog):
            if wanted in known.line_of(known.real(folder)):
                yield folder
        return
    home = known.identity(os.path.dirname(real))
    for folder in _folders(catalog):
        if home is not None and known.identity(known.real(folder)) == home:
            name = os.path.join(folder, os.path.basename(real))
            if _records(catalog, Path(name)):
                yield name


def _folders(catalog: Catalog) -> Iterator[str]:
    """Yield every folder that directly contains a file of the library."""
    # In Python, since SQLite has no function for it: a second for two million files.
    rows = catalog.db.execute("SELECT path FROM images")
    heads = {(path if isinstance(path, str) else os.fsdecode(path)).rpartition(os.sep)[0] for (path,) in rows}
    for head in heads:
        yield os.path.dirname(head + os.sep)


def _records(catalog: Catalog, path: Path) -> bool:
    where, parameters = where_at_or_below(path)
    return any(
        catalog.db.execute(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", parameters).fetchone()
        for table in ("images", "failures")
    )


def _outermost(names: list[str]) -> list[str]:
    kept: list[str] = []
    for name in sorted(set(names), key=lambda name: name.rstrip(os.sep) + os.sep):
        if not kept or not f"{name}{os.sep}".startswith(kept[-1].rstrip(os.sep) + os.sep):
            kept.append(name)
    return kept


class _Known:
    """A cache of file system lookups: each folder is resolved once, however many lie below it."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        self._identity: dict[str, Identity | None] = {}

    def real(self, folder: str) -> str:
        """Return the folder's path without symlinks."""
        *_, own = (self._without_link(str(parent)) for parent in (*reversed(Path(folder).parents), Path(folder)))
        return own

    def _without_link(self, folder: str) -> str:
        """Do the same for a folder whose parent is already cached."""
        if folder not in self._real:
            parent, name = os.path.split(folder)
            path = os.path.join(self._real[parent], name) if parent != folder else folder
            self._real[folder] = os.path.realpath(path) if os.path.islink(path) else path
        return self._real[folder]

    def identity(self, path: str) -> Identity | None:
        """Return a key that identifies a file or folder; None if it does not exist."""
        if path not in self._identity:
            try:
                status = os.stat(path)
                # Some Windows file systems have no inode numbers.
                found = (status.st_dev, status.st_ino) if status.st_ino else os.path.normcase(os.path.realpath(path))
            except (OSError, ValueError):
                found = None
            self._identity[path] = found
        return self._identity[path]

    def line_of(self, real: str) -> Iterator[Identity]:
        """Yield the identities of a folder and its ancestors."""
        path = Path(real)
        for folder in (path, *path.parents):
            if (identity := self.identity(str(folder))) is not None:
                yield identity
