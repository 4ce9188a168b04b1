"""Opening a catalog: schema, migrations, other files, and two processes at once."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.migrations import migrations
from clipkit.errors import ClipkitError, LibraryBusy, LibraryDamaged, LibraryNotFound

from .samples import DIMENSION, SPACE, copy, failure, photo, put, start

COLUMNS = {
    "images": {
        "id",
        "path",
        "size",
        "mtime_ns",
        "hash",
        "width",
        "height",
        "format",
        "taken_at",
        "utc_offset",
        "camera",
        "lens",
        "latitude",
        "longitude",
        "description",
        "title",
        "keywords",
        "generated",
        "edited_from",
        "shown",
        "indexed_at",
    },
    "embeddings": {"id", "hash", "space", "vector", "norm"},
    "failures": {"path", "size", "mtime_ns", "kind", "reason", "cause", "failed_at"},
    "drives": {"path", "drive"},
    "roots": {"path", "exclude", "include_generated", "added_at", "scanned_at"},
    "spaces": {"id", "dimension", "config", "created_at", "revision", "recorded_from"},
    "generations": {
        "id",
        "query",
        "path",
        "hash",
        "space",
        "prior",
        "decoder",
        "seed",
        "steps",
        "guidance",
        "parents",
        "created_at",
        "route",
        "operation",
        "parameters",
    },
}


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


def test_plain_sqlite_reads_the_tables_of_the_design(tmp_path):
    path = tmp_path / "catalog.db"
    Catalog.open(path, create=True).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    for table, columns in COLUMNS.items():
        assert {row[1] for row in connection.execute(f"PRAGMA table_info ({table})")} == columns
    connection.close()


def test_vectors_are_little_endian_half_precision_with_a_norm(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    connection = sqlite3.connect(catalog.path)
    kind, size, norm = connection.execute("SELECT typeof(vector), length(vector), norm FROM embeddings").fetchone()
    connection.close()
    assert (kind, size) == ("blob", 2 * DIMENSION)
    assert norm > 1.5


def test_opening_again_changes_nothing(tmp_path):
    path = tmp_path / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.add_space(SPACE, DIMENSION)
        put(catalog, photo("/p/a.jpg", "aa"))
    before = path.read_bytes()
    for create in (False, True):
        with Catalog.open(path, create=create) as catalog:
            assert catalog.spaces() == {SPACE: (DIMENSION, 0)}
            assert not migrations.pending(catalog.db)
            migrations.apply(catalog.db)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith("migrating")) == ["catalog.db"]


RACE = """
from pathlib import Path
from clipkit.catalog.catalog import Catalog
for folder in sorted(Path(sys.argv[1]).iterdir()):
    print("ready", flush=True)
    sys.stdin.readline()
    with Catalog.open(folder / "catalog.db", create=True) as catalog:
        catalog.add_space("of " + sys.argv[2], 4)
print("done", flush=True)
"""


def test_two_processes_open_a_new_catalog_at_once(tmp_path):
    rounds = [tmp_path / f"round{i:02}" for i in range(12)]
    for folder in rounds:
        folder.mkdir()
    processes = [start(RACE, tmp_path, name) for name in "ab"]
    for _ in rounds:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
    for process in processes:
        assert process.communicate()[0] == "done\n"
        assert process.returncode == 0
    for folder in rounds:
        with Catalog.open(folder / "catalog.db") as catalog:
            assert set(catalog.spaces()) == {"of a", "of b"}
            assert catalog.find_damage() == ""


def test_a_stale_log_is_not_replayed_over_a_new_catalog(tmp_path):
    with Catalog.open(tmp_path / "old" / "catalog.db", create=True) as old:
        old.add_space("old", 4)
        (tmp_path / "new").mkdir()
        shutil.copy(tmp_path / "old" / "catalog.db-wal", tmp_path / "new" / "catalog.db-wal")
        with Catalog.open(tmp_path / "new" / "catalog.db", create=True) as new:
            assert new.spaces() == {}
            assert new.find_damage() == ""


def test_a_killed_creation_is_restarted(tmp_path):
    path = tmp_path / "catalog.db"
    path.with_name("catalog.db.new").write_bytes(b"half a catalog")
    with pytest.raises(LibraryNotFound):
        Catalog.open(path)
    Catalog.open(path, create=True).close()
    Catalog.open(path).close()
    assert not path.with_name("catalog.db.new").exists()


def test_missing(tmp_path):
    with pytest.raises(LibraryNotFound) as error:
        Catalog.open(tmp_path / "nowhere" / "catalog.db")
    assert "clipkit index" in one_line(error)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("content", [b"", b"x", b"not a database\n" * 1000, bytes(8192), b"SQLite format 3\0" * 300])
def test_not_a_database(tmp_path, content):
    path = tmp_path / "catalog.db"
    path.write_bytes(content)
    for create in (False, True):
        with pytest.raises(LibraryDamaged) as error:
            Catalog.open(path, create=create)
        assert str(path) in one_line(error)
    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.3, 0.5, 0.9])
def test_truncated(tmp_path, share):
    path = tmp_path / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.add_space(SPACE, DIMENSION)
        put(catalog, *[photo(f"/p/{i}.jpg", f"h{i}") for i in range(200)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(LibraryDamaged) as error:
        Catalog.open(path)
    assert "backup" in one_line(error)


def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "catalog.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE songs (title)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LibraryDamaged) as error:
        Catalog.open(path)
    assert "not a clipkit catalog" in one_line(error)
    assert path.read_bytes() == before


def test_written_by_a_newer_clipkit(tmp_path):
    path = tmp_path / "catalog.db"
    Catalog.open(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('clipkit', '0099_later', 'today')"
    )
    connection.commit()
    connection.close()
    with pytest.raises(LibraryDamaged) as error:
        Catalog.open(path)
    assert "newer" in one_line(error) and "0099_later" in str(error.value) and "upgrade" in str(error.value)


def test_a_folder_instead_of_the_catalog(tmp_path):
    (tmp_path / "catalog.db").mkdir()
    with pytest.raises(LibraryNotFound):
        Catalog.open(tmp_path / "catalog.db")
    with pytest.raises((ClipkitError, OSError)):
        Catalog.open(tmp_path / "catalog.db", create=True)


def test_a_backup_that_is_not_in_wal_mode_is_opened(tmp_path):
    path = tmp_path / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.add_space(SPACE, DIMENSION)
        catalog.db.execute("VACUUM INTO ?", [str(tmp_path / "backup.db")])
    (tmp_path / "backup.db").replace(path)
    with Catalog.open(path) as catalog:
        assert catalog.spaces() == {SPACE: (DIMENSION, 0)}
        assert catalog.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_corruption_in_the_middle_is_found(tmp_path):
    path = tmp_path / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.add_space(SPACE, DIMENSION)
        put(catalog, *[photo(f"/p/{i}.jpg", f"h{i}") for i in range(500)])
        assert catalog.find_damage() == ""
        root = catalog.db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'images_hash'").fetchone()[0]
    data = bytearray(path.read_bytes())
    data[(root - 1) * 4096 : root * 4096] = b"\x55" * 4096
    path.write_bytes(data)
    with Catalog.open(path) as catalog:
        assert catalog.find_damage()


HOLD = """
from pathlib import Path
from clipkit.catalog.catalog import Catalog
from catalog.samples import photo, put
with Catalog.open(Path(sys.argv[1])) as catalog, catalog.writing():
    put(catalog, photo("/p/theirs.jpg", "theirs"))
    catalog.db.execute("BEGIN IMMEDIATE")
    catalog.commit_batch([photo("/p/unfinished.jpg", "unfinished")])
    print("holding", flush=True)
    sys.stdin.readline()
    catalog.db.execute("COMMIT")
"""


def test_a_second_writer_is_rejected_and_readers_are_not(catalog):
    put(catalog, photo("/p/ours.jpg", "ours"))
    holder = start(HOLD, catalog.path)
    assert holder.stdout.readline() == "holding\n"
    with pytest.raises(LibraryBusy) as error, catalog.writing():
        raise AssertionError("two processes hold the lock")
    assert "another process" in one_line(error)
    assert len(catalog.searchable_ids(SPACE)) == 2
    with Catalog.open(catalog.path) as reader:
        assert set(reader.states([copy("/p/theirs.jpg", "").path, copy("/p/unfinished.jpg", "").path])) == {
            copy("/p/theirs.jpg", "").path
        }
    holder.communicate("\n")
    with catalog.writing():
        catalog.commit_batch(failures=[failure("/p/broken.jpg")])
    assert len(list(catalog.failures())) == 1


def test_a_killed_writer_leaves_no_lock(catalog):
    holder = start(HOLD, catalog.path)
    assert holder.stdout.readline() == "holding\n"
    holder.kill()
    holder.communicate()
    with catalog.writing():
        put(catalog, photo("/p/next.jpg", "next"))
    assert catalog.find_damage() == ""
    assert len(catalog.searchable_ids(SPACE)) == 2


WRITE = """
import sys
from pathlib import Path
from clipkit.catalog.catalog import Catalog
from catalog.samples import photo, put
for number in range(3):
    with Catalog.open(Path(sys.argv[1])) as catalog, catalog.writing():
        put(catalog, *(photo(f"/p/{number}-{other}.jpg", f"{number}-{other}") for other in range(50)))
"""


def test_connections_of_one_process_keep_their_locks_while_another_process_writes(catalog):
    put(catalog, photo("/p/ours.jpg", "ours"))
    # As the threads of a server open them: none may drop the locks of those before it.
    with Catalog.open(catalog.path) as second, Catalog.open(catalog.path) as third:
        connections = (catalog, second, third)
        for connection in connections:
            assert len(connection.searchable_ids(SPACE)) == 1
        writer = start(WRITE, catalog.path)
        writer.communicate()
        assert writer.returncode == 0
        for connection in connections:
            assert len(connection.searchable_ids(SPACE)) == 151
            assert connection.find_damage() == ""
    with Catalog.open(catalog.path) as again:
        assert len(again.searchable_ids(SPACE)) == 151


ANOTHER_WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO spaces (id, dimension, created_at) VALUES ('other', 4, '')")
connection.commit()
connection.close()
"""


def test_a_private_copy_does_not_drop_the_locks_of_this_process(tmp_path):
    """Without them another process takes itself for the last one, and deletes the log that is still read here."""
    import subprocess
    import sys

    from clipkit.catalog.connection import _connect_to_copy

    path = tmp_path / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.add_space(SPACE, DIMENSION)
        for _ in range(2):
            private = _connect_to_copy(path)
            assert private.read_only
            assert private.connection.execute("SELECT id FROM spaces").fetchall() == [(SPACE,)]
            private.close()
        subprocess.run([sys.executable, "-c", ANOTHER_WRITER, str(path)], check=True)
        assert path.with_name("catalog.db-wal").exists()
        assert set(catalog.spaces()) == {SPACE, "other"}
