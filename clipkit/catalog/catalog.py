"""The catalog of one library: its files, their contents and embeddings, and the files that failed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.catalog.connection import OpenDatabase, as_clipkit_error, connect, create_database
from clipkit.catalog.paths import from_stored, to_stored, where_at_or_below
from clipkit.catalog.rows import Details, Embedding, Failure, ImageRow, NewImage, now
from clipkit.errors import ClipkitError, LibraryBusy, LibraryNotFound

if TYPE_CHECKING:
    from filelock import FileLock
    from sqlite_utils import Database

_DETAILS = tuple(field.name for field in fields(Details))
_LEDGER = (
    ("seen", "path PRIMARY KEY"),
    ("recognised", "first INTEGER PRIMARY KEY, last INTEGER NOT NULL"),
    ("arrived", "hash TEXT"),
    ("vanished", "path PRIMARY KEY"),
)
MAX_PARAMETERS = 500
"""Values bound in one statement; old SQLite builds allow 999."""

HAS_FILE = "EXISTS (SELECT 1 FROM images WHERE images.hash = embeddings.hash)"
"""SQL condition over `embeddings`: at least one file of the library has this content."""

IS_SEARCHABLE = "EXISTS (SELECT 1 FROM images WHERE images.hash = embeddings.hash AND images.shown)"
"""SQL condition over `embeddings`: searches may return this content, because a shown file has it."""


def is_unseen(images: str = "images") -> str:
    """Return the SQL condition over `images`, or its alias, that the scan has not come across this file."""
    return (
        f"(COALESCE((SELECT last FROM temp.recognised WHERE first <= {images}.id ORDER BY first DESC LIMIT 1), -1)"
        f" < {images}.id AND {images}.path NOT IN (SELECT path FROM temp.seen))"
    )


class Catalog:
    """The SQLite file of a library. Reading needs no lock; hold `writing()` to write.

    Every method that writes is one transaction, so a killed process leaves the state from before or after it.

    connection: the open connection. What a search reads goes through it, and everything else through `db`.
    """

    def __init__(self, path: Path, opened: OpenDatabase) -> None:
        self.path, self.connection, self._opened = path, opened.connection, opened
        self.read_only, self.uri = opened.read_only, opened.uri

    @cached_property
    def db(self) -> Database:
        """The connection wrapped by sqlite-utils, which is imported on first use: a search does without."""
        from sqlite_utils import Database

        return Database(self.connection)

    @cached_property
    def _lock(self) -> FileLock:
        from filelock import FileLock

        return FileLock(self.path.with_suffix(".lock"), timeout=0)

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Catalog:
        """Open the catalog at `path` and upgrade its schema. A read-only catalog is opened as it is.

        LibraryNotFound: it does not exist and `create` is false.
        LibraryDamaged: it is corrupt, not a catalog, or was written by a newer clipkit.
        LibraryBusy: another process keeps it locked.
        ClipkitError: it cannot be read.
        """
        if not create and not path.is_file():
            raise LibraryNotFound(f"there is no library at {path.parent}; create one with `clipkit index FOLDER`")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not path.exists():
                create_database(path)
            opened = connect(path)
        except sqlite3.DatabaseError as error:
            raise as_clipkit_error(path, error) from error
        catalog = cls(path, opened)
        catalog.begin_scan()
        return catalog

    def close(self) -> None:
        """Close the file; SQLite checkpoints its write-ahead log when the last connection closes."""
        self._opened.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the library's write lock.

        Raises LibraryBusy at once if another process holds it, ClipkitError if the library is read-only.
        """
        from filelock import Timeout

        self.require_writable()
        try:
            with self._lock:
                yield
        except Timeout:
            raise LibraryBusy(
                f"another process is writing to {self.path.parent}; wait for it, or stop it, and try again"
            ) from None

    def require_writable(self) -> None:
        """Raise ClipkitError if the library is read-only."""
        if self.read_only:
            raise ClipkitError(
                f"the library in {self.path.parent} can be searched but not changed: the disk is read-only, or you do "
                "not have write permission"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end, or roll back on an error.

        It takes SQLite's write lock at once: a transaction that reads before it writes fails without waiting if
        another process commits in between.
        """
        if self.connection.in_transaction:
            with self.db.atomic():
                yield
            return
        self.db.execute("BEGIN IMMEDIATE")
        with self.connection:
            yield

    # --- spaces and roots ---

    def add_space(self, space: str, dimension: int, config: dict | None = None) -> None:
        """Add a space, unless it exists."""
        with self.transaction():
            self.db.execute(
                "INSERT OR IGNORE INTO spaces (id, dimension, config, created_at) VALUES (?, ?, ?, ?)",
                [space, dimension, json.dumps(config or {}), now()],
            )

    def spaces(self) -> dict[str, tuple[int, int]]:
        """Map space ids to (dimension, revision), the default space first, then from oldest to newest."""
        order = "COALESCE(json_extract(config, '$.default'), 0) DESC, rowid"
        rows = self.connection.execute(f"SELECT id, dimension, revision FROM spaces ORDER BY {order}")
        return {row[0]: (row[1], row[2]) for row in rows}

    def add_roots(
        self, roots: Iterable[Path], exclude: Sequence[str], *, include_generated: bool | None = None
    ) -> None:
        """Remember folders to index, with their exclude globs.

        `include_generated`: whether searches show generated pictures below them; None keeps the current setting.
        """
        with self.transaction():
            for root in roots:
                self.db.execute(
                    "INSERT INTO roots (path, exclude, added_at) VALUES (?, ?, ?)"
                    " ON CONFLICT (path) DO UPDATE SET exclude = excluded.exclude",
                    (to_stored(root), json.dumps(list(exclude)), now()),
                )
                if include_generated is not None:
                    where, parameters = where_at_or_below(root)
                    sql = f"UPDATE roots SET include_generated = ? WHERE {where}"
                    self.db.execute(sql, [include_generated, *parameters])

    def roots(self) -> list[tuple[Path, list[str]]]:
        """Return the indexed folders with their exclude globs, oldest first."""
        rows = self.connection.execute("SELECT path, exclude FROM roots ORDER BY rowid")
        return [(from_stored(path), json.loads(exclude)) for path, exclude in rows]

    def show_by_roots(self) -> None:
        """Show or hide generated pictures as the innermost indexed folder above each of them says."""
        includes = {from_stored(row[0]): row[1] for row in self.db.execute("SELECT path, include_generated FROM roots")}
        changed = []
        for id_, path, shown in self.db.execute("SELECT id, path, shown FROM images WHERE generated IS NOT NULL"):
            file = from_stored(path)
            wanted = next((includes[folder] for folder in (file, *file.parents) if folder in includes), 0)
            if wanted != shown:
                changed.append((wanted, id_))
        if changed:
            with self.transaction():
                self.db.conn.executemany("UPDATE images SET shown = ? WHERE id = ?", changed)

    # --- known files and contents ---

    def states(self, paths: Sequence[Path]) -> dict[Path, tuple[int, int, str | None]]:
        """Map those of the paths that the catalog knows to (size, mtime_ns, hash); failures have the hash None."""
        found: dict[Path, tuple[int, int, str | None]] = {}
        for table, column in (("failures", "NULL"), ("images", "hash")):
            for part in _parts([to_stored(path) for path in paths]):
                sql = f"SELECT path, size, mtime_ns, {column} FROM {table} WHERE path IN ({_marks(part)})"
                for path, size, mtime_ns, hash_ in self.db.execute(sql, part):
                    found[from_stored(path)] = size, mtime_ns, hash_
        return found

    def causes(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Map those of the paths that failed to the cause of their failure."""
        found: dict[Path, str] = {}
        for part in _parts([to_stored(path) for path in paths]):
            sql = f"SELECT path, cause FROM failures WHERE path IN ({_marks(part)})"
            found.update((from_stored(path), cause) for path, cause in self.db.execute(sql, part))
        return found

    def known_contents(self, hashes: Iterable[str], space: str, *, with_files: bool = True) -> set[str]:
        """Return those of the hashes that are embedded in the space and, if `with_files`, belong to a file."""
        known: set[str] = set()
        condition = f" AND {HAS_FILE}" if with_files else ""
        for part in _parts(list(hashes)):
            sql = f"SELECT hash FROM embeddings WHERE space = ? AND hash IN ({_marks(part)}){condition}"
            known.update(row[0] for row in self.db.execute(sql, [space, *part]))
        return known

    # --- writing ---

    def commit_batch(
        self,
        images: Sequence[NewImage] = (),
        *,
        space: str = "",
        embeddings: Sequence[Embedding] = (),
        failures: Sequence[Failure] = (),
        missed: Sequence[Failure] = (),
    ) -> None:
        """Commit a batch in one transaction, files first, so that the triggers see which contents come back.

        `failures`: files that failed and are removed from the library.
        `missed`: files that are recorded as failures but stay: unchanged files that another space has embedded and
        this one could not read, and files that are out of reach for now.
        """
        with self.transaction():
            # Read these before writing: files that swapped names need each other's details.
            known = {i.hash: found for i in images if not i.details and (found := self._details_of(i.hash))}
            for image in images:
                self._put_image(image, known.get(image.hash))
            self.db.conn.executemany(
                "INSERT OR IGNORE INTO embeddings (hash, space, vector, norm) VALUES (?, ?, ?, ?)",
                [(e.hash, space, *_packed(e.vector)) for e in embeddings],
            )
            for failure in (*failures, *missed):
                path = to_stored(failure.path)
                if failure not in missed:
                    self.db.execute("DELETE FROM images WHERE path = ?", [path])
                self.db.execute(
                    "INSERT OR REPLACE INTO failures (path, size, mtime_ns, kind, reason, cause, failed_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [path, failure.size, failure.mtime_ns, failure.kind, failure.reason, failure.cause, now()],
                )

    def forget_failures(self, paths: Sequence[Path]) -> None:
        """Delete the failures of files that turned out to be readable."""
        with self.transaction():
            self.db.conn.executemany("DELETE FROM failures WHERE path = ?", [(to_stored(path),) for path in paths])

    def _details_of(self, content_hash: str) -> tuple | None:
        sql = f"SELECT {', '.join(_DETAILS)} FROM images WHERE hash = ? LIMIT 1"
        return self.db.execute(sql, [content_hash]).fetchone()

    def _put_image(self, image: NewImage, known: tuple | None) -> None:
        path = to_stored(image.path)
        self.db.execute(
            "INSERT INTO temp.arrived SELECT ?1 WHERE EXISTS (SELECT 1 FROM images WHERE hash = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM images WHERE path = ?2)",
            [image.hash, path],
        )
        if image.details:
            details = tuple(getattr(image.details, name) for name in _DETAILS)
        else:
            details = known or self._details_of(image.hash) or (None,) * len(_DETAILS)
        # A new generated picture stays hidden until `show_by_roots` has looked up its folder.
        generated = details[_DETAILS.index("generated")]
        columns = ("path", "size", "mtime_ns", "hash", *_DETAILS, "shown", "indexed_at")
        updates = ", ".join(f"{name} = excluded.{name}" for name in columns[1:] if name != "shown")
        updates += (
            ", shown = CASE WHEN generated IS NULL OR excluded.generated IS NULL THEN excluded.shown ELSE shown END"
        )
        self.db.execute(
            f"INSERT INTO images ({', '.join(columns)}) VALUES ({_marks(columns)})"
            f" ON CONFLICT (path) DO UPDATE SET {updates}",
            [path, image.size, image.mtime_ns, image.hash, *details, generated is None, now()],
        )
        self.db.execute("DELETE FROM failures WHERE path = ?", [path])

    # --- the ledger of a scan: temporary tables, so that scanning an unchanged library writes nothing to disk ---

    def begin_scan(self) -> None:
        """Start a new ledger."""
        for table, columns in _LEDGER:
            self.connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
            self.connection.execute(f"CREATE TEMP TABLE {table} ({columns})")

    def mark_seen(self, paths: Iterable[Path]) -> None:
        """Record that a scan has seen these files."""
        with self.db.atomic():
            self.db.conn.executemany("INSERT OR IGNORE INTO temp.seen VALUES (?)", [(to_stored(p),) for p in paths])

    def mark_recognised(self, ids: np.ndarray) -> None:
        """Record that a scan has seen the files of these rows of `images`, int64 (n,), ascending and distinct."""
        starts = np.flatnonzero(np.diff(ids, prepend=-2) > 1)  # of runs of consecutive ids
        ends = np.append(starts[1:], len(ids)) - 1
        with self.db.atomic():
            rows = zip(ids[starts].tolist(), ids[ends[: len(starts)]].tolist(), strict=True)
            self.db.conn.executemany("INSERT INTO temp.recognised VALUES (?, ?)", rows)

    def mark_seen_below(self, folder: Path) -> int:
        """Record everything known at or below a folder as seen, because the scan could not read the folder.

        Returns how many pictures were not marked as seen before.
        """
        where, parameters = where_at_or_below(folder)
        where += " AND path NOT IN (SELECT path FROM temp.vanished)"
        with self.transaction():
            self.db.execute(f"INSERT OR IGNORE INTO temp.seen SELECT path FROM failures WHERE {where}", parameters)
            sql = f"INSERT OR IGNORE INTO temp.seen SELECT path FROM images WHERE {where} AND {is_unseen()}"
            return self.db.execute(sql, parameters).rowcount

    def remove_vanished(self, roots: Sequence[Path]) -> tuple[int, int]:
        """Remove files at or below `roots` that the scan did not see, and files that were marked as vanished.

        Returns how many were removed, and how many of those moved: their content arrived under a new path.
        """
        moved_sql = """
            SELECT COALESCE(SUM(MIN(gone.n, come.n)), 0)
            FROM (SELECT hash, COUNT(*) AS n FROM images WHERE path IN (SELECT path FROM temp.vanished) GROUP BY hash)
                AS gone
            JOIN (SELECT hash, COUNT(*) AS n FROM temp.arrived GROUP BY hash) AS come USING (hash)"""
        with self.transaction():
            for root in roots:  # one at a time: there may be thousands, and SQLite limits the depth of expressions
                where, values = where_at_or_below(root)
                gone = f"SELECT path FROM images WHERE {where} AND {is_unseen()}"
                self.db.execute(f"INSERT OR IGNORE INTO temp.vanished {gone}", values)
                unseen = "path NOT IN (SELECT path FROM temp.seen)"
                self.db.execute(f"DELETE FROM failures WHERE {where} AND {unseen}", values)
            moved = self.db.execute(moved_sql).fetchone()[0]
            removed = self.db.execute("DELETE FROM images WHERE path IN (SELECT path FROM temp.vanished)").rowcount
            self.db.execute("DELETE FROM temp.vanished")
        return removed, moved

    def remove(self, paths: Sequence[Path]) -> int:
        """Remove files, or folders with everything below them; return how many files were removed."""
        removed = 0
        with self.transaction():
            for path in paths:
                where, parameters = where_at_or_below(path)
                removed += self.db.execute(f"DELETE FROM images WHERE {where}", parameters).rowcount
                self.db.execute(f"DELETE FROM failures WHERE {where}", parameters)
                self.db.execute(f"DELETE FROM roots WHERE {where}", parameters)
                self.db.execute(f"DELETE FROM drives WHERE {where}", parameters)
        return removed

    def purge_orphans(self) -> int:
        """Delete embeddings whose content no file has any more; return how many."""
        with self.transaction():
            return self.db.execute(f"DELETE FROM embeddings WHERE NOT {HAS_FILE}").rowcount

    # --- reading embeddings and files ---

    def searchable_embeddings(
        self, space: str, *, after_id: int = 0, chunk: int = 4096
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield chunks of searchable embeddings in order of id: ids int64 (n,), unit vectors float32 (n, d)."""
        while True:
            rows = self.connection.execute(
                f"SELECT id, vector FROM embeddings WHERE space = ? AND id > ? AND {IS_SEARCHABLE} ORDER BY id LIMIT ?",
                [space, after_id, chunk],
            ).fetchall()
            if not rows:
                return
            after_id = rows[-1][0]
            yield np.array([row[0] for row in rows], np.int64), _unpacked([row[1] for row in rows])

    def searchable_ids(self, space: str) -> np.ndarray:
        """Return the ids of the searchable embeddings, int64 (n,), ascending."""
        sql = f"SELECT id FROM embeddings WHERE space = ? AND {IS_SEARCHABLE} ORDER BY id"
        rows = self.connection.execute(sql, [space])
        return np.fromiter((row[0] for row in rows), np.int64)

    def searchable_among(self, space: str, ids: np.ndarray) -> np.ndarray:
        """Return those of the embedding ids that are searchable, int64 (n,), ascending."""
        found: list[int] = []
        for part in _parts([int(i) for i in ids]):
            sql = f"SELECT id FROM embeddings WHERE space = ? AND id IN ({_marks(part)}) AND {IS_SEARCHABLE}"
            found += [row[0] for row in self.db.execute(sql, [space, *part])]
        return np.sort(np.array(found, np.int64))

    def changed_since(self, space: str, revision: int) -> np.ndarray | None:
        """Return the ids, int64 (n,), of embeddings that lost their last file or got one back after a revision.

        None if that is not recorded so far back.
        """
        rows = self.db.execute(
            "SELECT embedding FROM changed_embeddings WHERE space = ? AND revision > ?", [space, revision]
        ).fetchall()
        # Second, so that rows forgotten in between are noticed.
        sql = "SELECT recorded_from FROM spaces WHERE id = ?"
        recorded = self.db.execute(sql, [space]).fetchone()
        if recorded is None or recorded[0] > revision:
            return None
        return np.unique(np.array([row[0] for row in rows], np.int64))

    def forget_changes(self, space: str, revision: int) -> None:
        """Delete the record of changes up to a revision that the published search index includes."""
        with self.transaction():
            self.db.execute("DELETE FROM changed_embeddings WHERE space = ? AND revision <= ?", [space, revision])
            self.db.execute("UPDATE spaces SET recorded_from = ? WHERE id = ?", [revision, space])

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the unit vectors, float32 (n, d), of embedding ids, in that order; raise KeyError if one is gone.

        Without ids, d is the dimension of the library's first space.
        """
        if not len(ids):
            return np.zeros((0, next(iter(self.spaces().values()), (0, 0))[0]), np.float32)
        found: dict[int, bytes] = {}
        for part in _parts([int(i) for i in ids]):
            sql = f"SELECT id, vector FROM embeddings WHERE id IN ({_marks(part)})"
            found.update(self.connection.execute(sql, part))
        return _unpacked([found[int(i)] for i in ids])

    def last_embedding_id(self, space: str) -> int:
        """Return the largest embedding id of the space; 0 if it has none."""
        row = self.connection.execute("SELECT MAX(id) FROM embeddings WHERE space = ?", [space]).fetchone()
        return row[0] or 0

    def last_issued_id(self) -> int:
        """Return the largest id that was ever assigned to an embedding, including deleted ones."""
        row = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'embeddings'").fetchone()
        return row[0] if row else 0

    def count_searchable(self, space: str, *, after_id: int = 0) -> int:
        """Return how many searchable embeddings have an id larger than `after_id`."""
        # All of them are counted in the order of the hashes: that passes through two indexes and reads no table.
        by = "" if after_id else "INDEXED BY sqlite_autoindex_embeddings_1"
        sql = f"SELECT COUNT(*) FROM embeddings {by} WHERE space = ? AND id > ? AND {IS_SEARCHABLE}"
        return self.connection.execute(sql, [space, after_id]).fetchone()[0]

    def files_by_embedding(
        self, ids: Sequence[int], condition: str = "", parameters: Sequence = ()
    ) -> dict[int, list[ImageRow]]:
        """Map embedding ids to their shown files that satisfy an SQL condition over `images`, oldest id first."""
        found: dict[int, list[ImageRow]] = {}
        for part in _parts([int(i) for i in ids]):
            sql = (
                f"SELECT embeddings.id, {ImageRow.COLUMNS} FROM embeddings JOIN images USING (hash)"
                f" WHERE embeddings.id IN ({_marks(part)}) AND images.shown AND ({condition or '1'}) ORDER BY images.id"
            )
            for embedding, *row in self.connection.execute(sql, [*part, *parameters]):
                found.setdefault(embedding, []).append(ImageRow.from_sql(tuple(row)))
        return found

    def failures(self) -> Iterator[Failure]:
        """Yield all failures, ordered by path."""
        for row in self.db.execute("SELECT path, size, mtime_ns, kind, reason, cause FROM failures ORDER BY path"):
            yield Failure(from_stored(row[0]), *row[1:])

    def find_damage(self) -> str:
        """Return what SQLite's integrity check reports; empty if the file is sound."""
        try:
            rows = [row[0] for row in self.db.execute("PRAGMA integrity_check(5)")]
        except sqlite3.DatabaseError as error:
            return str(error)
        return "" if rows == ["ok"] else "; ".join(rows)


def _parts(values: list) -> Iterator[list]:
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]


def _marks(values: Sequence) -> str:
    return ",".join("?" * len(values))


def _packed(vector: np.ndarray) -> tuple[bytes, float]:
    """Return the unit vector as little-endian float16, and the norm."""
    norm = float(np.linalg.norm(vector))
    return (vector / max(norm, 1e-12)).astype("<f2").tobytes(), norm


def _unpacked(blobs: list[bytes]) -> np.ndarray:
    """Return float32 (n, d). Rounded vectors are not normalised again, so that all readers get the same values."""
    return np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), -1).astype(np.float32)
