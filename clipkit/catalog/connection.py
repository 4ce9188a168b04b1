"""Create and open the catalog's database, and explain in one line why it cannot be opened."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from clipkit.catalog import migrations as schema
from clipkit.catalog.migrations import migrations
from clipkit.errors import ClipkitError, LibraryBusy, LibraryDamaged

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another process that creates or upgrades the schema, or that commits."""

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

_OUTSIDE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)


@contextmanager
def _migrating(path: Path) -> Iterator[None]:
    """Hold the lock of everything that creates or upgrades a catalog. Raises LibraryBusy if it cannot be had."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(path.with_suffix(".migrating"), timeout=LOCK_TIMEOUT):
            yield
    except Timeout:
        raise LibraryBusy(f"another process is upgrading {path.parent}; wait for it and try again") from None


def _migrate(connection: sqlite3.Connection) -> None:
    from sqlite_utils import Database

    migrations.apply(Database(connection))


def create_database(path: Path) -> None:
    """Create an empty catalog under a temporary name and rename it, so that a kill leaves none or a complete one."""
    with _migrating(path):
        if path.exists():
            return
        unfinished = path.with_name(f"{path.name}.new")
        for name in (unfinished.name, f"{unfinished.name}-wal", f"{unfinished.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        for name in (f"{path.name}-wal", f"{path.name}-shm"):  # SQLite would replay a stale log
            path.with_name(name).unlink(missing_ok=True)
        connection = sqlite3.connect(unfinished)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            _migrate(connection)
        finally:
            connection.close()
        os.replace(unfinished, path)


@dataclass(frozen=True)
class OpenDatabase:
    """An open catalog.

    `uri`: for opening further connections.
    `read_only`: it cannot be written to.
    `copy`: the temporary folder of a private copy, deleted on close.
    """

    connection: sqlite3.Connection
    uri: str
    read_only: bool = False
    copy: TemporaryDirectory | None = None

    def close(self) -> None:
        """Close the connection and delete the private copy, if there is one."""
        self.connection.close()
        if self.copy:
            self.copy.cleanup()


def connect(path: Path) -> OpenDatabase:
    """Open an existing catalog and, unless it is read-only, apply missing migrations.

    Raises LibraryDamaged, or an error of sqlite3.
    """
    # Not opened to look into it: closing a file drops the locks that this process's other connections hold on it
    # (POSIX), and another process would delete the log that they still read.
    if path.stat().st_size < 20:  # SQLite would treat it as a new database
        raise LibraryDamaged(f"{path} is corrupt (it is empty): {_advice(path)}")
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return OpenDatabase(_connect_to_write(path), _uri(path, "mode=ro"))
    return _connect_to_read(path) or _connect_to_copy(path)


def _connect_to_write(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT, check_same_thread=False)
    try:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            # A restored backup; two processes must not switch it at the same time.
            with _migrating(path):
                connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        if _lacks_migrations(connection, path):
            with _migrating(path):
                _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_read(path: Path) -> OpenDatabase | None:
    """Open a catalog that this user cannot write to; return None if it must be copied to be read.

    SQLite reads a write-ahead log only together with the shared memory file of the process that writes it. Without
    either, the database file is complete and is opened as immutable.
    """
    log = path.with_name(f"{path.name}-wal")
    alone = not log.exists() or log.stat().st_size == 0
    for mode in ("mode=ro", "mode=ro&immutable=1") if alone else ("mode=ro",):
        connection = sqlite3.connect(_uri(path, mode), timeout=LOCK_TIMEOUT, check_same_thread=False, uri=True)
        try:
            if not _lacks_migrations(connection, path):
                return OpenDatabase(connection, _uri(path, mode), read_only=True)
            connection.close()
            return None
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode & 0xFF not in _OUTSIDE:
                raise
        except BaseException:
            connection.close()
            raise
    return None


def _connect_to_copy(path: Path) -> OpenDatabase:
    """Open a private copy, because the schema is outdated, or a log must be replayed to read the catalog."""
    from tempfile import TemporaryDirectory

    folder = TemporaryDirectory(prefix="clipkit-", ignore_cleanup_errors=True)
    try:
        own = Path(folder.name) / path.name
        _copy_database(path, own)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            shutil.copyfile(log, own.with_name(log.name))
        return OpenDatabase(_connect_to_write(own), _uri(own, "mode=ro"), read_only=True, copy=folder)
    except BaseException:
        folder.cleanup()
        raise


_copying = threading.Lock()
_never_closed: dict[tuple[int, int], BinaryIO] = {}
"""Files of catalogs that were copied, by device and inode."""


def _copy_database(path: Path, target: Path) -> None:
    """Copy the file of a catalog without dropping the locks that this process's connections hold on it.

    POSIX drops them whenever the process closes any descriptor of the file, as `connect` says; so this one stays open,
    one for each file, as SQLite keeps its own until the last lock is gone. Windows has locks for each handle.
    """
    if os.name != "posix":
        shutil.copyfile(path, target)
        return
    status = path.stat()
    key = status.st_dev, status.st_ino
    with _copying, target.open("wb") as copy:
        source = _never_closed.get(key)
        if source is None:
            source = _never_closed[key] = path.open("rb")
        source.seek(0)
        shutil.copyfileobj(source, copy)


def _lacks_migrations(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether migrations are missing; raise LibraryDamaged for a newer schema and for other databases."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if schema.TABLE not in tables:
        raise LibraryDamaged(f"{path} is not a clipkit catalog: {_advice(path)}")
    rows = connection.execute(f"SELECT name FROM {schema.TABLE} WHERE migration_set = ?", [schema.SET])
    applied, own = {row[0] for row in rows}, set(migrations.names)
    if applied - own:
        raise LibraryDamaged(f"{path} was written by a newer clipkit ({max(applied - own)}): upgrade clipkit")
    return bool(own - applied)


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?{mode}"


def as_clipkit_error(path: Path, error: sqlite3.DatabaseError) -> ClipkitError:
    """Turn an error of SQLite into one that says what to do."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LibraryBusy(f"another process has locked {path}; wait for it, or stop it, and try again")
    if code == sqlite3.SQLITE_FULL:
        return ClipkitError(f"the disk of {path} is full: free some space and try again; nothing is lost")
    if code in _OUTSIDE:
        return ClipkitError(f"could not open {path} ({error}): check that you may read it")
    return LibraryDamaged(f"{path} is corrupt ({error}): {_advice(path)}")


def _advice(path: Path) -> str:
    log = path.with_name(f"{path.name}-wal")
    also = f" and delete {log.name}" if log.exists() else ""  # or SQLite replays it over the backup
    return f"restore a backup{also}, or delete {path.parent} and index again"
