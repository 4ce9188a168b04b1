"""The schema as numbered migrations. A new version of clipkit adds migrations and never edits old ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

TABLE, SET = "_sqlite_migrations", "clipkit"
"""The table in which sqlite-utils records the applied migrations, and the name of this set in it."""


class NumberedMigrations:
    """The migrations by name, oldest first.

    sqlite-utils applies them. It is imported only then: opening a current catalog compares names, and a search should
    not wait for that import.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Callable[[Database], None]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all migrations."""
        return tuple(self._functions)

    def __call__(self, *, name: str) -> Callable[[Callable[[Database], None]], Callable[[Database], None]]:
        """Register the decorated function under a name that sorts after all others."""

        def register(function: Callable[[Database], None]) -> Callable[[Database], None]:
            self._functions[name] = function
            return function

        return register

    def apply(self, db: Database, *, stop_before: str | None = None) -> None:
        """Apply those that are missing, each in a transaction with the record of it."""
        self._as_known_to_sqlite_utils().apply(db, stop_before=stop_before)

    def pending(self, db: Database) -> list[str]:
        """Return the names of those that the database lacks."""
        return [migration.name for migration in self._as_known_to_sqlite_utils().pending(db)]

    def _as_known_to_sqlite_utils(self) -> Migrations:
        from sqlite_utils import Migrations

        known = Migrations(SET)
        for name, function in self._functions.items():
            known(name=name)(function)
        return known


migrations = NumberedMigrations()


@migrations(name="0001_initial")
def _initial(db: Database) -> None:
    # AUTOINCREMENT: ids are never reused, because search indexes refer to embeddings by id.
    for statement in _INITIAL:
        db.execute(statement)


_INITIAL = (
    """CREATE TABLE images (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        hash TEXT NOT NULL,
        width INTEGER, height INTEGER, format TEXT,
        taken_at TEXT, camera TEXT, lens TEXT,
        latitude REAL, longitude REAL,
        description TEXT,
        indexed_at TEXT NOT NULL
    )""",
    "CREATE INDEX images_hash ON images (hash)",
    "CREATE INDEX images_taken_at ON images (taken_at)",
    "CREATE INDEX images_place ON images (latitude, longitude)",
    """CREATE TABLE spaces (
        id TEXT PRIMARY KEY,
        dimension INTEGER NOT NULL,
        config TEXT NOT NULL DEFAULT '{}',
        created_at TEXT NOT NULL,
        revision INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE embeddings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        hash TEXT NOT NULL,
        space TEXT NOT NULL REFERENCES spaces (id),
        vector BLOB NOT NULL,
        norm REAL NOT NULL,
        UNIQUE (hash, space)
    )""",
    "CREATE INDEX embeddings_space ON embeddings (space)",
    """CREATE TABLE failures (
        path NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        kind TEXT NOT NULL,
        reason TEXT NOT NULL,
        failed_at TEXT NOT NULL
    )""",
    """CREATE TABLE roots (
        path NOT NULL UNIQUE,
        exclude TEXT NOT NULL DEFAULT '[]',
        added_at TEXT NOT NULL,
        scanned_at TEXT
    )""",
    """CREATE TABLE generations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        query TEXT NOT NULL,
        path NOT NULL UNIQUE,
        hash TEXT,
        space TEXT, prior TEXT, decoder TEXT,
        seed INTEGER, steps INTEGER, guidance REAL,
        parents TEXT NOT NULL DEFAULT '[]',
        created_at TEXT NOT NULL
    )""",
    # `revision` counts how often an embedding lost its last file or got one back: search indexes built before that
    # must be checked against the catalog. New embeddings need no revision, since their ids are larger.
    """CREATE TRIGGER last_file_gone AFTER DELETE ON images
       WHEN NOT EXISTS (SELECT 1 FROM images WHERE hash = OLD.hash)
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = OLD.hash);
       END""",
    """CREATE TRIGGER last_file_changed AFTER UPDATE OF hash ON images
       WHEN OLD.hash <> NEW.hash
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = OLD.hash)
           AND NOT EXISTS (SELECT 1 FROM images WHERE hash = OLD.hash);
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = NEW.hash)
           AND NOT EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash AND id <> NEW.id);
       END""",
    """CREATE TRIGGER first_file_back AFTER INSERT ON images
       WHEN NOT EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash AND id <> NEW.id)
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = NEW.hash);
       END""",
)


@migrations(name="0002_made_pictures")
def _made_pictures(db: Database) -> None:
    # `made`: which marks say that a file was generated; NULL for photos. Generated files are `shown` by searches only
    # where their folder includes them; `revision` now counts what is shown.
    for statement in _MADE_PICTURES:
        db.execute(statement)


_MADE_PICTURES = (
    "ALTER TABLE images ADD COLUMN made TEXT",
    "ALTER TABLE images ADD COLUMN shown INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE roots ADD COLUMN include_generated INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX images_made ON images (made) WHERE made IS NOT NULL",
    "DROP TRIGGER last_file_gone",
    "DROP TRIGGER last_file_changed",
    "DROP TRIGGER first_file_back",
    """CREATE TRIGGER last_file_gone AFTER DELETE ON images
       WHEN OLD.shown AND NOT EXISTS (SELECT 1 FROM images WHERE hash = OLD.hash AND shown)
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = OLD.hash);
       END""",
    """CREATE TRIGGER last_file_changed AFTER UPDATE OF hash, shown ON images
       WHEN OLD.hash <> NEW.hash OR OLD.shown <> NEW.shown
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE OLD.shown AND id IN (SELECT space FROM embeddings WHERE hash = OLD.hash)
           AND NOT EXISTS (SELECT 1 FROM images WHERE hash = OLD.hash AND shown);
         UPDATE spaces SET revision = revision + 1
         WHERE NEW.shown AND id IN (SELECT space FROM embeddings WHERE hash = NEW.hash)
           AND NOT EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash AND shown AND id <> NEW.id);
       END""",
    """CREATE TRIGGER first_file_back AFTER INSERT ON images
       WHEN NEW.shown AND NOT EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash AND shown AND id <> NEW.id)
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = NEW.hash);
       END""",
)


@migrations(name="0003_routes")
def _routes(db: Database) -> None:
    # For each term of the query, how it reached the decoder; JSON.
    db.execute("ALTER TABLE generations ADD COLUMN route TEXT NOT NULL DEFAULT '[]'")


@migrations(name="0004_causes_and_drives")
def _causes_and_drives(db: Database) -> None:
    # `cause`: see `clipkit.images.failure_causes`; empty for failures recorded by older versions.
    # `drives`: the drive of each root, and of each mount point below one, at the last scan.
    db.execute("ALTER TABLE failures ADD COLUMN cause TEXT NOT NULL DEFAULT ''")
    db.execute("CREATE TABLE drives (path NOT NULL UNIQUE, drive TEXT NOT NULL)")


@migrations(name="0005_local_time")
def _local_time(db: Database) -> None:
    # From here on `taken_at` is local time only; offsets at its end move to `utc_offset`.
    # `strftime('%s', taken_at || utc_offset)` is the instant. `keywords` is a JSON list.
    for statement in _LOCAL_TIME:
        db.execute(statement)


_LOCAL_TIME = (
    "ALTER TABLE images ADD COLUMN utc_offset TEXT",
    "ALTER TABLE images ADD COLUMN title TEXT",
    "ALTER TABLE images ADD COLUMN keywords TEXT",
    """UPDATE images SET utc_offset = substr(taken_at, -6), taken_at = substr(taken_at, 1, length(taken_at) - 6)
       WHERE taken_at GLOB '*T*[+-][0-9][0-9]:[0-9][0-9]'""",
)


@migrations(name="0006_generated")
def _generated(db: Database) -> None:
    for statement in _GENERATED:
        db.execute(statement)


_GENERATED = (
    "ALTER TABLE images RENAME COLUMN made TO generated",
    "DROP INDEX images_made",
    "CREATE INDEX images_generated ON images (generated) WHERE generated IS NOT NULL",
    "UPDATE failures SET cause = 'access' WHERE cause = 'here'",
    "UPDATE failures SET cause = 'not-a-file' WHERE cause = 'entry'",
    "UPDATE failures SET cause = 'resources' WHERE cause = 'machine'",
)


@migrations(name="0007_changed_embeddings")
def _changed_embeddings(db: Database) -> None:
    # Which embeddings lost their last shown file or got one back, by the revision of the space: search indexes look up
    # these instead of comparing all ids. Complete for revisions after `recorded_from`.
    for statement in _CHANGED_EMBEDDINGS:
        db.execute(statement)


_RECORD = """INSERT OR IGNORE INTO changed_embeddings
         SELECT embeddings.space, spaces.revision, embeddings.id
         FROM embeddings JOIN spaces ON spaces.id = embeddings.space"""

_CHANGED_EMBEDDINGS = (
    "ALTER TABLE spaces ADD COLUMN recorded_from INTEGER NOT NULL DEFAULT 0",
    "UPDATE spaces SET recorded_from = revision",
    """CREATE TABLE changed_embeddings (
        space TEXT NOT NULL,
        revision INTEGER NOT NULL,
        embedding INTEGER NOT NULL,
        PRIMARY KEY (space, revision, embedding)
    ) WITHOUT ROWID""",
    """CREATE TRIGGER space_removed AFTER DELETE ON spaces
       BEGIN
         DELETE FROM changed_embeddings WHERE space = OLD.id;
       END""",
    "DROP TRIGGER last_file_gone",
    "DROP TRIGGER last_file_changed",
    "DROP TRIGGER first_file_back",
    f"""CREATE TRIGGER last_file_gone AFTER DELETE ON images
       WHEN OLD.shown AND NOT EXISTS (SELECT 1 FROM images WHERE hash = OLD.hash AND shown)
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = OLD.hash);
         {_RECORD} WHERE embeddings.hash = OLD.hash;
       END""",
    f"""CREATE TRIGGER last_file_changed AFTER UPDATE OF hash, shown ON images
       WHEN OLD.hash <> NEW.hash OR OLD.shown <> NEW.shown
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE OLD.shown AND id IN (SELECT space FROM embeddings WHERE hash = OLD.hash)
           AND NOT EXISTS (SELECT 1 FROM images WHERE hash = OLD.hash AND shown);
         {_RECORD} WHERE embeddings.hash = OLD.hash
           AND OLD.shown AND NOT EXISTS (SELECT 1 FROM images WHERE hash = OLD.hash AND shown);
         UPDATE spaces SET revision = revision + 1
         WHERE NEW.shown AND id IN (SELECT space FROM embeddings WHERE hash = NEW.hash)
           AND NOT EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash AND shown AND id <> NEW.id);
         {_RECORD} WHERE embeddings.hash = NEW.hash
           AND NEW.shown AND NOT EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash AND shown AND id <> NEW.id);
       END""",
    f"""CREATE TRIGGER first_file_back AFTER INSERT ON images
       WHEN NEW.shown AND NOT EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash AND shown AND id <> NEW.id)
       BEGIN
         UPDATE spaces SET revision = revision + 1
         WHERE id IN (SELECT space FROM embeddings WHERE hash = NEW.hash);
         {_RECORD} WHERE embeddings.hash = NEW.hash;
       END""",
)


@migrations(name="0008_timeline")
def _timeline(db: Database) -> None:
    # For browsing in order of time, and for counting by month and camera, without reading the table.
    db.execute("CREATE INDEX images_timeline ON images (shown, taken_at, id)")
    db.execute("CREATE INDEX images_camera ON images (shown, camera)")


@migrations(name="0009_operations")
def _operations(db: Database) -> None:
    # `operation`: the command that made the picture; `parameters`: JSON, see `Generated`.
    db.execute("ALTER TABLE generations ADD COLUMN operation TEXT NOT NULL DEFAULT 'generate'")
    db.execute("ALTER TABLE generations ADD COLUMN parameters TEXT NOT NULL DEFAULT '{}'")


@migrations(name="0010_edited")
def _edited(db: Database) -> None:
    # For pictures whose marks say that they are edited: `images.hash` of the original, or '' if they do not say.
    db.execute("ALTER TABLE images ADD COLUMN edited_from TEXT")
    db.execute("CREATE INDEX images_edited_from ON images (edited_from) WHERE edited_from IS NOT NULL")


@migrations(name="0011_shown_hashes")
def _shown_hashes(db: Database) -> None:
    # Whether a content has a shown file is in the index, so that nothing reads the table to find out.
    db.execute("DROP INDEX images_hash")
    db.execute("CREATE INDEX images_hash ON images (hash, shown)")
