"""Generated pictures are recorded, hidden unless their folder includes them; and older catalogs are migrated."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.filters import IS_ALLOWED, Filters, allowed_embedding_ids, apply_filters
from clipkit.catalog.info import library_info
from clipkit.catalog.migrations import migrations
from clipkit.errors import BadQuery

from .samples import SPACE, copy, embeddings, id_of, photo, put, revision


def shown(catalog: Catalog) -> list[int]:
    return catalog.searchable_ids(SPACE).tolist()


@pytest.fixture
def filled(catalog) -> Catalog:
    """A photo in /p, and generated pictures in /p and /p/art."""
    put(
        catalog,
        photo("/p/a.jpg", "photo"),
        photo("/p/b.png", "stray", generated="xmp"),
        photo("/p/art/c.png", "art", generated="c2pa"),
    )
    return catalog


def test_they_are_recorded_but_not_found(filled):
    photo_id, stray = id_of(filled, "photo"), id_of(filled, "stray")
    assert shown(filled) == [photo_id] and filled.count_searchable(SPACE) == 1
    assert [ids.tolist() for ids, _ in filled.searchable_embeddings(SPACE)] == [[photo_id]]
    assert list(filled.files_by_embedding([photo_id, stray])) == [photo_id]
    assert filled.known_contents(["photo", "stray", "art"], SPACE) == {"photo", "stray", "art"}, (
        "none of them is embedded again"
    )
    assert filled.purge_orphans() == 0
    apply_filters(filled, Filters(under=(Path("/p"),)))
    assert allowed_embedding_ids(filled, SPACE).tolist() == [photo_id]
    assert list(filled.files_by_embedding([photo_id, stray], IS_ALLOWED)) == [photo_id]


def test_the_innermost_folder_decides(filled):
    photo_id, stray, art = (id_of(filled, name) for name in ("photo", "stray", "art"))
    before = revision(filled)
    filled.add_roots([Path("/p")], [], include_generated=False)
    filled.add_roots([Path("/p/art")], [], include_generated=True)
    filled.show_by_roots()
    assert shown(filled) == sorted([photo_id, art]) and revision(filled) == before + 1
    filled.show_by_roots()
    filled.add_roots([Path("/p")], ["*.tmp"])
    filled.show_by_roots()
    assert shown(filled) == sorted([photo_id, art]) and revision(filled) == before + 1, "the setting is remembered"
    filled.add_roots([Path("/p")], [], include_generated=True)
    filled.show_by_roots()
    assert shown(filled) == sorted([photo_id, stray, art])
    filled.add_roots([Path("/p")], [], include_generated=False)
    filled.show_by_roots()
    assert shown(filled) == [photo_id], "a setting applies to subfolders"
    assert revision(filled) == before + 4


def test_copies_and_rescanned_files_keep_their_visibility(filled):
    filled.add_roots([Path("/p/art")], [], include_generated=True)
    filled.show_by_roots()
    art, before = id_of(filled, "art"), revision(filled)
    put(filled, copy("/p/art/c.png", "art", mtime_ns=2))
    assert art in shown(filled) and revision(filled) == before
    put(filled, copy("/p/copy.png", "art"), copy("/p/copy2.png", "stray"))
    filled.show_by_roots()
    assert art in shown(filled) and id_of(filled, "stray") not in shown(filled)
    assert [row.path for row in filled.files_by_embedding([art])[art]] == [Path("/p/art/c.png")], (
        "the copy elsewhere stays hidden"
    )
    filled.remove([Path("/p/art")])
    assert art not in shown(filled) and revision(filled) == before + 1


def test_a_photo_that_becomes_generated_and_back(filled):
    before = revision(filled)
    put(filled, photo("/p/a.jpg", "now-generated", generated="pixels"), photo("/p/b.png", "now-photo"))
    assert shown(filled) == [id_of(filled, "now-photo")] and revision(filled) == before + 1


def test_they_are_counted(filled):
    counts = library_info(filled)
    assert (counts.images, counts.pictures, counts.generated, counts.marked, counts.marked_shown) == (1, 1, 2, 2, 0)
    assert counts.models == {SPACE: 1} and counts.orphans == 0
    assert dict(counts.lines())["generated"].startswith("2 pictures: 2 marked files left out of searches")
    filled.add_roots([Path("/p")], [], include_generated=True)
    filled.show_by_roots()
    counts = library_info(filled)
    assert (counts.images, counts.generated, counts.marked_shown) == (3, 2, 2)
    assert "2 marked files that searches include" in dict(counts.lines())["generated"]


def test_expressions_can_select_them(filled):
    filled.add_roots([Path("/p")], [], include_generated=True)
    filled.show_by_roots()
    apply_filters(filled, Filters(where="generated IS NOT NULL"))
    assert len(allowed_embedding_ids(filled, SPACE)) == 2
    with pytest.raises(BadQuery, match="generated"):
        apply_filters(filled, Filters(where="nonsense"))


def test_an_older_catalog_is_migrated(tmp_path):
    path = tmp_path / "catalog.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    migrations.apply(Database(connection), stop_before="0002_made_pictures")
    connection.execute("INSERT INTO spaces (id, dimension, created_at) VALUES (?, 8, 'then')", [SPACE])
    connection.execute(
        "INSERT INTO images (path, size, mtime_ns, hash, indexed_at) VALUES ('/p/old.jpg', 1, 1, 'old', 'then')"
    )
    connection.execute("INSERT INTO roots (path, added_at) VALUES ('/p', 'then')")
    connection.commit()
    connection.close()
    with Catalog.open(path) as catalog:
        catalog.commit_batch(space=SPACE, embeddings=embeddings("old"))
        catalog.show_by_roots()
        assert shown(catalog) == [id_of(catalog, "old")] and catalog.roots() == [(Path("/p"), [])]
        catalog.remove([Path("/p/old.jpg")])
        assert revision(catalog) == 1 and shown(catalog) == []
