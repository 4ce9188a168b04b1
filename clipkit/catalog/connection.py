"""Create and open the catalog's database, and explain in one line why it cannot be opened."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from sqlite_utils import Database

from clipkit.catalog.migrations import migrations
from clipkit.errors import ClipkitError, LibraryBusy, LibraryDamaged

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another process that creates or upgrades the schema, or that commits."""

_OUTSIDE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)


def create_database(path: Path) -> None:
    """Create an empty catalog under a temporary name and rename it, so that a kill leaves none or a complete one."""
    with FileLock(path.with_suffix(".migrating"), timeout=LOCK_TIMEOUT):
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
            migrations.apply(Database(connection))
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

    db: Database
    uri: str
    read_only: bool = False
    copy: TemporaryDirectory | None = None

    def close(self) -> None:
        """Close the connection and delete the private copy, if there is one."""
        self.db.close()
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


def _connect_to_write(path: Path) -> Database:
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT, check_same_thread=False)
    try:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            # A restored backup; two processes must not switch it at the same time.
            with FileLock(path.with_suffix(".migrating"), timeout=LOCK_TIMEOUT):
                connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        db = Database(connection)
        if _lacks_migrations(db, path):
            with FileLock(path.with_suffix(".migrating"), timeout=LOCK_TIMEOUT):
                migrations.apply(db)
    except BaseException:
        connection.close()
        raise
    return db


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
            db = Database(connection)
            if not _lacks_migrations(db, path):
                return OpenDatabase(db, _uri(path, mode), read_only=True)
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
    folder = TemporaryDirectory(prefix="clipkit-", ignore_cleanup_errors=True)
    try:
        own = Path(folder.name) / path.name
        for name in (path.name, f"{path.name}-wal"):
            if path.with_name(name).exists():
                shutil.copyfile(path.with_name(name), own.with_name(name))
        return OpenDatabase(_connect_to_write(own), _uri(own, "mode=ro"), read_only=True, copy=folder)
    except BaseException:
        folder.cleanup()
        raise


def _lacks_migrations(db: Database, path: Path) -> bool:
    """Return whether migrations are missing; raise LibraryDamaged for a newer schema and for other databases."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if migrations.migrations_table not in tables:
        raise LibraryDamaged(f"{path} is not a clipkit catalog: {_advice(path)}")
    applied = {migration.name for migration in migrations.applied(db)}
    own = {migration.name for migration in migrations._migrations}
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
