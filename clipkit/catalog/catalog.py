"""One library's catalog: what files there are, what they hold, what could not be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from clipkit.catalog.connection import OpenDatabase, as_clipkit_error, connect, create_database
from clipkit.catalog.paths import from_stored, to_stored, where_at_or_below
from clipkit.catalog.rows import Details, Embedding, Failure, ImageRow, NewImage, now
from clipkit.errors import ClipkitError, LibraryBusy, LibraryNotFound

_DETAILS = tuple(field.name for field in fields(Details))
_LEDGER = (("seen", "path PRIMARY KEY"), ("arrived", "hash TEXT"), ("vanished", "path PRIMARY KEY"))
MAX_PARAMETERS = 500
"""Values bound in one statement: SQLite's own limit is 999 in old builds."""

HAS_FILE = "EXISTS (SELECT 1 FROM images WHERE images.hash = embeddings.hash)"
"""The condition over `embeddings` that some file of the library holds the content."""

IS_SEARCHABLE = "EXISTS (SELECT 1 FROM images WHERE images.hash = embeddings.hash AND images.shown)"
"""The condition over `embeddings` that searches may find the content: a file that is shown holds it."""


class Catalog:
    """The SQLite file of a library. Reading needs no lock; to write, hold `writing()`.

    Every method that writes is one transaction: a process killed at any moment leaves the state before or after it.
    """

    def __init__(self, path: Path, opened: OpenDatabase) -> None:
        self.path, self.db, self._opened = path, opened.db, opened
        self.read_only, self.uri = opened.read_only, opened.uri
        self._lock = FileLock(path.with_suffix(".lock"), timeout=0)

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Catalog:
        """Opens the catalog at `path` and brings its schema up to date; where it may not be written to, it is read as
        it is.

        Raises LibraryNotFound where there is none and `create` is not given, LibraryDamaged if the file is torn, no
        catalog, or written by a newer clipkit, LibraryBusy if another process keeps it locked, ClipkitError if it may
        not be read.
        """
        if not create and not path.is_file():
            raise LibraryNotFound(f"there is no library at {path.parent}; make one with `clipkit index FOLDER`")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not path.exists():
                create_database(path)
            opened = connect(path)
        except Timeout:
            raise LibraryBusy(f"another process is upgrading {path.parent}; wait for it and try again") from None
        except sqlite3.DatabaseError as error:
            raise as_clipkit_error(path, error) from error
        catalog = cls(path, opened)
        catalog.begin_scan()
        return catalog

    def close(self) -> None:
        """Closes the file; SQLite folds its write-ahead log in when the last user closes."""
        self._opened.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the library's write lock; raises LibraryBusy at once if another process has it, ClipkitError if the
        library may not be written to."""
        self.require_writable()
        try:
            with self._lock:
                yield
        except Timeout:
            raise LibraryBusy(
                f"another process is writing to {self.path.parent}; wait for it, or stop it, and try again"
            ) from None

    def require_writable(self) -> None:
        """Raises ClipkitError if the library may not be written to."""
        if self.read_only:
            raise ClipkitError(
                f"the library in {self.path.parent} can be searched but not changed: it is on a read-only disk, or you "
                "may not write there"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits at the end, undoes all on an error.

        It takes SQLite's write lock at once, for one that reads first and then writes fails, without any waiting, if
        another process has committed in between.
        """
        if self.db.conn.in_transaction:
            with self.db.atomic():
                yield
            return
        self.db.execute("BEGIN IMMEDIATE")
        with self.db.conn:
            yield

    # --- spaces and roots ---

    def add_space(self, space: str, dimension: int, config: dict | None = None) -> None:
        """Records a space; one that is known stays as it is."""
        with self.transaction():
            self.db.execute(
                "INSERT OR IGNORE INTO spaces (id, dimension, config, created_at) VALUES (?, ?, ?, ?)",
                [space, dimension, json.dumps(config or {}), now()],
            )

    def spaces(self) -> dict[str, tuple[int, int]]:
        """Space id -> (dimension, revision): the default one first, then the oldest first."""
        order = "COALESCE(json_extract(config, '$.default'), 0) DESC, rowid"
        rows = self.db.execute(f"SELECT id, dimension, revision FROM spaces ORDER BY {order}")
        return {row[0]: (row[1], row[2]) for row in rows}

    def add_roots(
        self, roots: Iterable[Path], exclude: Sequence[str], *, include_generated: bool | None = None
    ) -> None:
        """Remembers folders that are indexed, with what is left out of them.

        `include_generated`: whether searches show the pictures below them that a model made; None leaves it as it was.
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
        """Folders that were indexed and what is left out of them, the oldest first."""
        rows = self.db.execute("SELECT path, exclude FROM roots ORDER BY rowid")
        return [(from_stored(path), json.loads(exclude)) for path, exclude in rows]

    def show_by_roots(self) -> None:
        """Shows the pictures that a model made where the folder they were indexed by includes them, and hides the rest.

        Of folders within each other, the innermost decides.
        """
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

    # --- what is known already ---

    def states(self, paths: Sequence[Path]) -> dict[Path, tuple[int, int, str | None]]:
        """Path -> (size, mtime_ns, hash) of the given files that the catalog knows; the hash of a failure is None."""
        found: dict[Path, tuple[int, int, str | None]] = {}
        for table, column in (("failures", "NULL"), ("images", "hash")):
            for part in _parts([to_stored(path) for path in paths]):
                sql = f"SELECT path, size, mtime_ns, {column} FROM {table} WHERE path IN ({_marks(part)})"
                for path, size, mtime_ns, hash_ in self.db.execute(sql, part):
                    found[from_stored(path)] = size, mtime_ns, hash_
        return found

    def causes(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Path -> what the failure of each file that has one was due to."""
        found: dict[Path, str] = {}
        for part in _parts([to_stored(path) for path in paths]):
            sql = f"SELECT path, cause FROM failures WHERE path IN ({_marks(part)})"
            found.update((from_stored(path), cause) for path, cause in self.db.execute(sql, part))
        return found

    def known_contents(self, hashes: Iterable[str], space: str, *, with_files: bool = True) -> set[str]:
        """Those of the hashes that are embedded in the space, and (`with_files`) that some file still holds."""
        known: set[str] = set()
        condition = f" AND {HAS_FILE}" if with_files else ""
        for part in _parts(list(hashes)):
            sql = f"SELECT hash FROM embeddings WHERE space = ? AND hash IN ({_marks(part)}){condition}"
            known.update(row[0] for row in self.db.execute(sql, [space, *part]))
        return known

    # --- writing a run ---

    def commit_batch(
        self,
        images: Sequence[NewImage] = (),
        *,
        space: str = "",
        embeddings: Sequence[Embedding] = (),
        failures: Sequence[Failure] = (),
        missed: Sequence[Failure] = (),
    ) -> None:
        """Records a batch in one transaction: files first, so that the triggers see which contents come back.

        `failures` leave the library. `missed` are noted as failures, and stay where they are: unchanged files that
        another space has and this one could not read, and files whose bytes are out of reach for now.
        """
        with self.transaction():
            # Read before anything is written: files that swapped their names have each other's.
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
        """Drops what is noted of files that can be read after all."""
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
        # A picture that a model made stays hidden until `show_by_roots` has looked whose folder it lies in.
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

    # --- the ledger of a scan, in a temporary table so that an unchanged library is not rewritten ---

    def begin_scan(self) -> None:
        """Forgets what an earlier scan of this process saw."""
        for table, columns in _LEDGER:
            self.db.execute(f"DROP TABLE IF EXISTS temp.{table}")
            self.db.execute(f"CREATE TEMP TABLE {table} ({columns})")

    def mark_seen(self, paths: Iterable[Path]) -> None:
        """Notes that these files are there."""
        with self.db.atomic():
            self.db.conn.executemany("INSERT OR IGNORE INTO temp.seen VALUES (?)", [(to_stored(p),) for p in paths])

    def mark_seen_below(self, folder: Path) -> int:
        """Takes all that is known below a folder for there, because the scan could not look into it.

        Returns how many pictures that adds to those seen.
        """
        where, parameters = where_at_or_below(folder)
        where += " AND path NOT IN (SELECT path FROM temp.vanished)"
        with self.transaction():
            self.db.execute(f"INSERT OR IGNORE INTO temp.seen SELECT path FROM failures WHERE {where}", parameters)
            sql = f"INSERT OR IGNORE INTO temp.seen SELECT path FROM images WHERE {where}"
            return self.db.execute(sql, parameters).rowcount

    def remove_vanished(self, roots: Sequence[Path]) -> tuple[int, int]:
        """Takes out files at or below `roots` that the scan did not see, and those that were marked as vanished.

        Returns how many, and how many of them moved: their bytes arrived under a new path since the scan began.
        """
        moved_sql = """
            SELECT COALESCE(SUM(MIN(gone.n, come.n)), 0)
            FROM (SELECT hash, COUNT(*) AS n FROM images WHERE path IN (SELECT path FROM temp.vanished) GROUP BY hash)
                AS gone
            JOIN (SELECT hash, COUNT(*) AS n FROM temp.arrived GROUP BY hash) AS come USING (hash)"""
        with self.transaction():
            for root in roots:  # one by one: roots may be thousands of files, and SQLite's expressions only so deep
                where, values = where_at_or_below(root)
                where += " AND path NOT IN (SELECT path FROM temp.seen)"
                self.db.execute(f"INSERT OR IGNORE INTO temp.vanished SELECT path FROM images WHERE {where}", values)
                self.db.execute(f"DELETE FROM failures WHERE {where}", values)
            moved = self.db.execute(moved_sql).fetchone()[0]
            removed = self.db.execute("DELETE FROM images WHERE path IN (SELECT path FROM temp.vanished)").rowcount
            self.db.execute("DELETE FROM temp.vanished")
        return removed, moved

    def remove(self, paths: Sequence[Path]) -> int:
        """Takes files, or all below folders, out of the library, and forgets those folders; returns how many files."""
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
        """Drops embeddings of contents that no file of the library holds any more; returns how many."""
        with self.transaction():
            return self.db.execute(f"DELETE FROM embeddings WHERE NOT {HAS_FILE}").rowcount

    # --- embeddings, out ---

    def searchable_embeddings(
        self, space: str, *, after_id: int = 0, chunk: int = 4096
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Embeddings that searches may find, by rising id: int64 (n,) and unit float32 (n, d), in chunks."""
        while True:
            rows = self.db.execute(
                f"SELECT id, vector FROM embeddings WHERE space = ? AND id > ? AND {IS_SEARCHABLE} ORDER BY id LIMIT ?",
                [space, after_id, chunk],
            ).fetchall()
            if not rows:
                return
            after_id = rows[-1][0]
            yield np.array([row[0] for row in rows], np.int64), _unpacked([row[1] for row in rows])

    def searchable_ids(self, space: str) -> np.ndarray:
        """Ids of the embeddings that searches may find, int64 (n,), rising."""
        rows = self.db.execute(f"SELECT id FROM embeddings WHERE space = ? AND {IS_SEARCHABLE} ORDER BY id", [space])
        return np.fromiter((row[0] for row in rows), np.int64)

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Unit vectors float32 (n, d) of embeddings, in the order asked for; raises KeyError for one that is gone.

        Of no ids the d is that of the library's first space.
        """
        if not len(ids):
            return np.zeros((0, next(iter(self.spaces().values()), (0, 0))[0]), np.float32)
        found: dict[int, bytes] = {}
        for part in _parts([int(i) for i in ids]):
            found.update(self.db.execute(f"SELECT id, vector FROM embeddings WHERE id IN ({_marks(part)})", part))
        return _unpacked([found[int(i)] for i in ids])

    def last_embedding_id(self, space: str) -> int:
        """The largest embedding id of the space, 0 if it has none."""
        row = self.db.execute("SELECT MAX(id) FROM embeddings WHERE space = ?", [space]).fetchone()
        return row[0] or 0

    def last_issued_id(self) -> int:
        """The largest id that any embedding ever had in this catalog, also of those that were dropped since."""
        row = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'embeddings'").fetchone()
        return row[0] if row else 0

    def count_searchable(self, space: str, *, after_id: int = 0) -> int:
        """How many embeddings with larger ids searches may find."""
        sql = f"SELECT COUNT(*) FROM embeddings WHERE space = ? AND id > ? AND {IS_SEARCHABLE}"
        return self.db.execute(sql, [space, after_id]).fetchone()[0]

    def files_by_embedding(
        self, ids: Sequence[int], condition: str = "", parameters: Sequence = ()
    ) -> dict[int, list[ImageRow]]:
        """Embedding id -> its shown files for which the SQL condition over `images` holds, the oldest id first."""
        found: dict[int, list[ImageRow]] = {}
        for part in _parts([int(i) for i in ids]):
            sql = (
                f"SELECT embeddings.id, {ImageRow.COLUMNS} FROM embeddings JOIN images USING (hash)"
                f" WHERE embeddings.id IN ({_marks(part)}) AND images.shown AND ({condition or '1'}) ORDER BY images.id"
            )
            for embedding, *row in self.db.execute(sql, [*part, *parameters]):
                found.setdefault(embedding, []).append(ImageRow.from_sql(tuple(row)))
        return found

    def failures(self) -> Iterator[Failure]:
        """All failures, by path."""
        for row in self.db.execute("SELECT path, size, mtime_ns, kind, reason, cause FROM failures ORDER BY path"):
            yield Failure(from_stored(row[0]), *row[1:])

    def find_damage(self) -> str:
        """What SQLite finds wrong with the file; empty if nothing is."""
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
    """The unit vector as little-endian float16, and the norm."""
    norm = float(np.linalg.norm(vector))
    return (vector / max(norm, 1e-12)).astype("<f2").tobytes(), norm


def _unpacked(blobs: list[bytes]) -> np.ndarray:
    """float32 (n, d); the rounding to half precision is left as it is, so that all paths to a vector agree."""
    return np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), -1).astype(np.float32)
