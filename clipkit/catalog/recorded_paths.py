"""The names by which a library records a folder, which people may know by others."""

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
    """Return the paths, absolute, at or below which the library records what lies at or below `path`.

    `path` may begin with `~`, and may lead there through other symbolic links than those that the library was indexed
    through, with `..`, or in another case where the file system is blind to it: folders are told by their identity. A
    folder that is away is known by its own name alone.

    Raises BadQuery if the library holds nothing there, unless it is a folder within one that was indexed.
    """
    given = os.path.expanduser(path)
    written = os.path.abspath(given)
    known = _Known()
    wanted = known.identity(given)
    # `..` behind a symbolic link leads elsewhere than the text of the path says.
    names = [written] if known.identity(written) == wanted and _records(catalog, Path(written)) else []
    if wanted is not None:
        with contextlib.suppress(OSError):  # it went away meanwhile
            names += _found(catalog, known, os.path.realpath(given), wanted)
    if names:
        return [Path(name) for name in _outermost(names)]
    if wanted is not None and any(_lies_in(known, given, root) for root, _ in catalog.roots()):
        return [Path(written)]
    raise BadQuery(
        f"the library holds no pictures below {written}: `clipkit info` lists its folders, `clipkit index` adds one"
    )


def _lies_in(known: _Known, path: str, root: Path) -> bool:
    identity = known.identity(os.fspath(root))
    return identity is not None and identity in known.line_of(os.path.realpath(path))


def _found(catalog: Catalog, known: _Known, real: str, wanted: Identity) -> Iterator[str]:
    """Yield the recorded folders that lie at or below the wanted one, or the recorded path of the wanted file."""
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
    """Yield every folder that directly holds a file of the library."""
    # In Python, because SQLite has no function for it; a second for two million files.
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
    """What the file system has said already: every folder is looked at once, however many lie below it."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        self._identity: dict[str, Identity | None] = {}

    def real(self, folder: str) -> str:
        """Return the folder's path without symbolic links."""
        *_, own = (self._without_link(str(parent)) for parent in (*reversed(Path(folder).parents), Path(folder)))
        return own

    def _without_link(self, folder: str) -> str:
        """As `real`, for a folder whose parent went through here before."""
        if folder not in self._real:
            parent, name = os.path.split(folder)
            path = os.path.join(self._real[parent], name) if parent != folder else folder
            self._real[folder] = os.path.realpath(path) if os.path.islink(path) else path
        return self._real[folder]

    def identity(self, path: str) -> Identity | None:
        """Return what tells a file or folder from all others; None if it is not there."""
        if path not in self._identity:
            try:
                status = os.stat(path)
                # Some file systems of Windows number nothing.
                found = (status.st_dev, status.st_ino) if status.st_ino else os.path.normcase(os.path.realpath(path))
            except (OSError, ValueError):
                found = None
            self._identity[path] = found
        return self._identity[path]

    def line_of(self, real: str) -> Iterator[Identity]:
        """Yield the identities of a folder and of those that it lies in."""
        path = Path(real)
        for folder in (path, *path.parents):
            if (identity := self.identity(str(folder))) is not None:
                yield identity
