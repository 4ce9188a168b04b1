"""The catalog's files, contents, failures, scans and revisions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.info import library_info
from clipkit.catalog.paths import from_stored, to_stored, where_at_or_below
from clipkit.catalog.rows import Embedding, NewImage

from .samples import (
    DIMENSION,
    SPACE,
    copy,
    embedded,
    embeddings,
    failure,
    id_of,
    paths,
    photo,
    put,
    revision,
    vector_of,
)

BYTES = os.fsdecode(b"/p/caf\xe9 \xff/im\xfeage.jpg")


# --- paths ---


def test_undecodable_names_are_stored_as_bytes(catalog):
    put(catalog, photo(BYTES, "raw"), photo("/p/café.jpg", "text"))
    stored = dict(catalog.db.execute("SELECT hash, path FROM images").fetchall())
    assert stored == {"raw": os.fsencode(BYTES), "text": "/p/café.jpg"}


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_every_name_survives_a_round_trip(name):
    path = Path(os.fsdecode(b"/" + name))
    assert from_stored(to_stored(path)) == path


def test_every_method_accepts_undecodable_names(catalog):
    raw, text = Path(BYTES), Path("/p/plain.jpg")
    put(catalog, photo(raw, "aa", size=7, mtime_ns=8), photo(text, "bb"))
    assert catalog.states([raw, text]) == {raw: (7, 8, "aa"), text: (10, 1, "bb")}
    assert catalog.files_by_embedding([id_of(catalog, "aa")])[id_of(catalog, "aa")][0].path == raw
    catalog.commit_batch(failures=[failure(raw)])
    assert catalog.states([raw]) == {raw: (10, 1, None)}
    assert [f.path for f in catalog.failures()] == [raw]
    put(catalog, photo(raw, "aa"))
    catalog.add_roots([raw.parent], ["*.tmp"])
    assert catalog.roots() == [(raw.parent, ["*.tmp"])]
    catalog.begin_scan()
    catalog.mark_seen([raw])
    assert catalog.remove_vanished([Path("/p")]) == (1, 0)
    assert paths(catalog) == {BYTES}
    catalog.begin_scan()
    assert catalog.remove_vanished([raw.parent]) == (1, 0)
    put(catalog, photo(raw, "aa"))
    assert catalog.remove([raw]) == 1
    put(catalog, photo(raw, "aa"))
    assert catalog.remove([raw.parent]) == 1
    assert paths(catalog) == set()


TREE = [
    "/a/b",
    "/a/b/1.jpg",
    "/a/b/c/2.jpg",
    "/a/bc/3.jpg",
    "/a/b.jpg",
    "/a/b-/4.jpg",
    "/a/b0/5.jpg",
    "/a/B/6.jpg",
    "/a/%/7.jpg",
    "/a/x/8.jpg",
    "/a/_/9.jpg",
    "/a/[b]/10.jpg",
    "/a/*/11.jpg",
    "/a/b\U0010ffff/12.jpg",
    "/ab/13.jpg",
    "/a/b/\U0010ffff.jpg",
    os.fsdecode(b"/a/b/\xff.jpg"),
    os.fsdecode(b"/a/b\xff/14.jpg"),
    "/a/b/ .jpg",
    "/a/b/'.jpg",
    os.fsdecode(b"/a/\xff/15.jpg"),
    os.fsdecode(b"/a/\xff0/16.jpg"),
]


@pytest.mark.parametrize(
    "folder",
    ["/", "/a", "/a/b", "/a/bc", "/a/%", "/a/_", "/a/[b]", "/a/*", "/a/b/c/2.jpg", "/none"]
    + [os.fsdecode(b"/a/\xff"), os.fsdecode(b"/a/b/\xff.jpg")],
)
def test_at_or_below_matches_the_folder_and_its_content_only(catalog, folder):
    put(catalog, *[photo(path, f"h{i}") for i, path in enumerate(TREE)])
    where, parameters = where_at_or_below(Path(folder))
    found = {str(from_stored(r[0])) for r in catalog.db.execute(f"SELECT path FROM images WHERE {where}", parameters)}
    expected = {p for p in TREE if Path(p) == Path(folder) or Path(folder) in Path(p).parents}
    assert found == expected
    assert catalog.remove([Path(folder)]) == len(expected)
    assert paths(catalog) == set(TREE) - expected


names = st.lists(st.sampled_from(["a", "b", "ab", "%", "_", "[a]", "\udcff", "a\udcff", "é", "'", " "]), min_size=1)


@given(st.lists(names, max_size=12), names)
@settings(max_examples=30, deadline=None)
def test_at_or_below_agrees_with_pathlib(files, folder):
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE images (path)")
    files = [Path("/", *parts) for parts in files]
    connection.executemany("INSERT INTO images VALUES (?)", [(to_stored(path),) for path in files])
    where, parameters = where_at_or_below(Path("/", *folder))
    found = [from_stored(row[0]) for row in connection.execute(f"SELECT path FROM images WHERE {where}", parameters)]
    connection.close()
    assert sorted(found) == sorted(path for path in files if path.is_relative_to(Path("/", *folder)))


# --- files and contents ---


def test_a_duplicate_is_embedded_once_and_shares_the_details(catalog):
    put(catalog, photo("/p/a.jpg", "aa", camera="Box", taken_at="2020-01-01T00:00:00", latitude=1.0, longitude=2.0))
    put(catalog, copy("/p/b.jpg", "aa"))
    catalog.commit_batch([photo("/p/c.jpg", "aa")], space=SPACE, embeddings=embeddings("aa"))
    assert embedded(catalog, SPACE) == (1, 1)
    rows = catalog.files_by_embedding([1])[1]
    assert [str(row.path) for row in rows] == ["/p/a.jpg", "/p/b.jpg", "/p/c.jpg"]
    assert [row.camera for row in rows] == ["Box", "Box", None]
    assert (rows[1].width, rows[1].height, rows[1].taken_at) == (4, 3, "2020-01-01T00:00:00")


def test_a_copy_in_the_same_batch_shares_the_details(catalog):
    put(catalog, photo("/p/a.jpg", "aa", camera="Box"), copy("/p/b.jpg", "aa"))
    assert {row.camera for row in catalog.files_by_embedding([1])[1]} == {"Box"}


def test_a_changed_file_has_its_new_content(catalog):
    put(catalog, photo("/p/a.jpg", "old", camera="Box"))
    before = catalog.db.execute("SELECT id FROM images").fetchone()
    put(catalog, photo("/p/a.jpg", "new", size=11, mtime_ns=2))
    assert catalog.states([Path("/p/a.jpg")]) == {Path("/p/a.jpg"): (11, 2, "new")}
    assert catalog.db.execute("SELECT id, camera FROM images").fetchall() == [(*before, None)]
    assert catalog.known_contents(["old", "new", "other"], SPACE) == {"new"}
    assert catalog.known_contents(["old", "new", "other"], SPACE, with_files=False) == {"old", "new"}
    assert catalog.searchable_ids(SPACE).tolist() == [id_of(catalog, "new")]


def test_spaces_do_not_mix(catalog):
    catalog.add_space("other", DIMENSION, {"tower": "small"})
    catalog.add_space(SPACE, 999)
    put(catalog, photo("/p/a.jpg", "aa"), photo("/p/b.jpg", "bb"))
    put(catalog, photo("/p/a.jpg", "aa"), space="other")
    assert catalog.spaces() == {SPACE: (DIMENSION, 0), "other": (DIMENSION, 0)}
    assert catalog.known_contents(["aa", "bb"], "other") == {"aa"}
    assert embedded(catalog, "other") == (1, id_of(catalog, "aa", "other"))
    assert embedded(catalog, "none") == (0, 0)
    assert len(catalog.searchable_ids(SPACE)) == 2 and len(catalog.searchable_ids("other")) == 1


def test_more_values_than_a_statement_allows(catalog):
    many = [photo(f"/p/{i}.jpg", f"h{i}") for i in range(1201)]
    catalog.commit_batch(many, space=SPACE, embeddings=embeddings(*[i.hash for i in many]))
    assert len(catalog.states([i.path for i in many])) == 1201
    assert len(catalog.known_contents([i.hash for i in many], SPACE)) == 1201
    ids = catalog.searchable_ids(SPACE)
    assert len(catalog.files_by_embedding(ids.tolist(), "images.size = ?", [10])) == 1201
    shuffled = np.random.default_rng(0).permutation(ids)
    assert np.array_equal(catalog.vectors(shuffled)[np.argsort(shuffled)], catalog.vectors(ids))


def test_vectors_are_stored_in_half_precision(catalog):
    contents = [f"c{i}" for i in range(25)]
    put(catalog, *[photo(f"/p/{c}.jpg", c) for c in contents])
    chunks = list(catalog.searchable_embeddings(SPACE, chunk=4))
    ids, vectors = np.concatenate([c[0] for c in chunks]), np.concatenate([c[1] for c in chunks])
    assert ids.dtype == np.int64 and vectors.dtype == np.float32 and vectors.shape == (25, DIMENSION)
    assert np.array_equal(ids, catalog.searchable_ids(SPACE)) and (np.diff(ids) > 0).all()
    norms = dict(catalog.db.execute("SELECT id, norm FROM embeddings").fetchall())
    for content in contents:
        row = vectors[ids == id_of(catalog, content)][0]
        wanted = vector_of(content)
        norm = np.linalg.norm(wanted)
        assert norms[id_of(catalog, content)] == pytest.approx(norm, rel=1e-6)
        assert np.abs(row - wanted / norm).max() <= 2**-11
        assert np.array_equal(row, (wanted / norm).astype(np.float16).astype(np.float32))
    assert np.array_equal(catalog.vectors(ids[::-1]), vectors[::-1])
    later = list(catalog.searchable_embeddings(SPACE, after_id=int(ids[19])))
    assert np.array_equal(later[0][0], ids[20:])


def test_vectors_of_no_ids_and_of_missing_ids(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    assert catalog.vectors(np.zeros(0, np.int64)).shape == (0, DIMENSION)
    with pytest.raises(KeyError):
        catalog.vectors(np.array([1, 2]))
    assert catalog.files_by_embedding([]) == {}
    assert list(catalog.searchable_embeddings("none")) == []
    assert catalog.searchable_ids("none").dtype == np.int64


def test_a_zero_vector_is_accepted(catalog):
    catalog.commit_batch([photo("/p/a.jpg", "aa")], space=SPACE, embeddings=[Embedding("aa", np.zeros(8, np.float32))])
    assert not catalog.vectors(np.array([1])).any()


def test_a_failing_batch_is_rolled_back(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    with pytest.raises(Exception, match="NOT NULL"):
        catalog.commit_batch([photo("/p/b.jpg", "bb"), NewImage(Path("/p/c.jpg"), None, 1, "cc")], space=SPACE)
    with pytest.raises(Exception, match="FOREIGN KEY"):
        catalog.commit_batch([photo("/p/b.jpg", "bb")], space="unknown", embeddings=embeddings("bb"))
    assert paths(catalog) == {"/p/a.jpg"}
    put(catalog, photo("/p/b.jpg", "bb"))
    assert paths(catalog) == {"/p/a.jpg", "/p/b.jpg"}


# --- failures ---


def test_a_failure_removes_the_file_and_a_success_removes_the_failure(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), photo("/p/b.jpg", "bb"))
    catalog.commit_batch(failures=[failure("/p/a.jpg"), failure("/p/z.jpg", "unreadable", "no permission")])
    assert paths(catalog) == {"/p/b.jpg"}
    kinds = [(str(f.path), f.kind, f.reason, f.size) for f in catalog.failures()]
    assert kinds == [("/p/a.jpg", "truncated", "it ends early", 10), ("/p/z.jpg", "unreadable", "no permission", 10)]
    catalog.commit_batch(failures=[failure("/p/a.jpg", "timeout", "too slow")])
    assert next(catalog.failures()).to_json() == {"path": "/p/a.jpg", "kind": "timeout", "reason": "too slow"}
    put(catalog, photo("/p/a.jpg", "aa"))
    assert [str(f.path) for f in catalog.failures()] == ["/p/z.jpg"]
    assert paths(catalog) == {"/p/a.jpg", "/p/b.jpg"}


# --- scans ---


def scan(catalog: Catalog, root: str, seen: list[str], *new: NewImage) -> tuple[int, int]:
    """Scan `root`, finding the files `seen` and new ones."""
    catalog.begin_scan()
    catalog.mark_seen([Path(p) for p in seen] + [i.path for i in new])
    put(catalog, *new)
    return catalog.remove_vanished([Path(root)])


def test_unseen_files_below_the_roots_are_removed_and_others_stay(catalog):
    put(catalog, photo("/a/b/1.jpg", "h1"), photo("/a/b/2.jpg", "h2"), photo("/a/bc/3.jpg", "h3"))
    catalog.commit_batch(failures=[failure("/a/b/4.jpg"), failure("/a/bc/5.jpg")])
    assert scan(catalog, "/a/b", ["/a/b/1.jpg"]) == (1, 0)
    assert paths(catalog) == {"/a/b/1.jpg", "/a/bc/3.jpg"}
    assert [str(f.path) for f in catalog.failures()] == ["/a/bc/5.jpg"]
    assert catalog.remove_vanished([]) == (0, 0)


def test_a_moved_file_is_removed_and_counted_as_moved_once(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), photo("/p/b.jpg", "bb"))
    assert scan(catalog, "/p", ["/p/b.jpg"], copy("/p/c.jpg", "aa")) == (1, 1)
    assert scan(catalog, "/p", ["/p/b.jpg", "/p/c.jpg"]) == (0, 0)
    assert embedded(catalog, SPACE)[0] == 2


def test_one_move_and_one_new_copy(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    assert scan(catalog, "/p", [], copy("/p/b.jpg", "aa"), copy("/p/c.jpg", "aa")) == (1, 1)


def test_two_copies_vanish_and_one_arrives(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), copy("/p/b.jpg", "aa"))
    assert scan(catalog, "/p", [], copy("/p/c.jpg", "aa")) == (2, 1)


def test_a_deleted_copy_has_not_moved(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), copy("/p/b.jpg", "aa"))
    assert scan(catalog, "/p", ["/p/a.jpg"]) == (1, 0)


def test_a_deleted_copy_has_not_moved_to_one_that_was_touched(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), copy("/p/b.jpg", "aa"))
    assert scan(catalog, "/p", [], copy("/p/b.jpg", "aa", mtime_ns=99)) == (1, 0)


def test_a_file_moved_over_a_known_one_is_a_change_and_a_removal(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), photo("/p/b.jpg", "bb"))
    assert scan(catalog, "/p", [], copy("/p/a.jpg", "bb")) == (1, 0)
    assert catalog.known_contents(["aa", "bb"], SPACE) == {"bb"}


def test_a_move_out_of_the_roots(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    assert scan(catalog, "/q", [], copy("/q/a.jpg", "aa")) == (0, 0)
    assert paths(catalog) == {"/p/a.jpg", "/q/a.jpg"}


def test_thousands_of_roots(catalog):
    put(catalog, photo("/p/1.jpg", "h1"), photo("/p/2999.jpg", "h2"), photo("/p/3000.jpg", "h3"))
    catalog.begin_scan()
    catalog.mark_seen([Path("/p/1.jpg")])
    assert catalog.remove_vanished([Path(f"/p/{i}.jpg") for i in range(3000)]) == (1, 0)
    assert paths(catalog) == {"/p/1.jpg", "/p/3000.jpg"}


def test_remove_deletes_folders_and_counts_files(catalog):
    put(catalog, photo("/p/q/a.jpg", "aa"), photo("/p/b.jpg", "bb"), photo("/r/c.jpg", "cc"))
    catalog.commit_batch(failures=[failure("/p/q/bad.jpg")])
    catalog.add_roots([Path("/p"), Path("/p/q"), Path("/r")], [])
    catalog.add_roots([Path("/r")], ["*.png"])
    assert catalog.remove([Path("/p"), Path("/p/b.jpg")]) == 2
    assert catalog.roots() == [(Path("/r"), ["*.png"])]
    assert list(catalog.failures()) == []
    assert catalog.purge_orphans() == 2
    assert embedded(catalog, SPACE) == (1, 3)


# --- revisions ---


def test_new_embeddings_do_not_change_the_revision(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), photo("/p/b.jpg", "bb"))
    put(catalog, copy("/p/c.jpg", "aa"))
    put(catalog, copy("/p/a.jpg", "aa", mtime_ns=5))
    assert revision(catalog) == 0


def test_losing_the_last_file_bumps_but_a_copy_does_not(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), copy("/p/b.jpg", "aa"))
    catalog.remove([Path("/p/a.jpg")])
    assert revision(catalog) == 0
    catalog.remove([Path("/p/b.jpg")])
    assert revision(catalog) == 1
    assert len(catalog.searchable_ids(SPACE)) == 0


def test_losing_both_copies_at_once_bumps(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), copy("/p/b.jpg", "aa"))
    catalog.remove([Path("/p")])
    assert revision(catalog) >= 1


def test_a_restored_orphan_bumps(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    catalog.remove([Path("/p/a.jpg")])
    put(catalog, photo("/q/a.jpg", "aa"))
    assert revision(catalog) == 2
    assert embedded(catalog, SPACE) == (1, 1)
    put(catalog, copy("/q/b.jpg", "aa"))
    assert revision(catalog) == 2


def test_new_bytes_bump_only_if_the_old_or_the_new_were_searchable(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    put(catalog, photo("/p/a.jpg", "bb"))
    assert revision(catalog) == 1  # "aa" lost its file; "bb" is new
    put(catalog, photo("/p/a.jpg", "aa"))
    assert revision(catalog) == 3  # "bb" lost its file; "aa" is back
    put(catalog, copy("/p/b.jpg", "aa"), photo("/p/c.jpg", "cc"))
    put(catalog, copy("/p/b.jpg", "cc"))
    assert revision(catalog) == 3  # both have another file


def test_a_failure_of_the_last_file_bumps(catalog):
    put(catalog, photo("/p/a.jpg", "aa"), copy("/p/b.jpg", "aa"))
    catalog.commit_batch(failures=[failure("/p/a.jpg")])
    assert revision(catalog) == 0
    catalog.commit_batch(failures=[failure("/p/b.jpg")])
    assert revision(catalog) == 1


def test_only_the_spaces_of_the_content_are_bumped(catalog):
    catalog.add_space("other", DIMENSION)
    put(catalog, photo("/p/a.jpg", "aa"))
    put(catalog, photo("/p/b.jpg", "bb"), space="other")
    catalog.remove([Path("/p/b.jpg")])
    assert (revision(catalog), revision(catalog, "other")) == (0, 1)


def test_ids_of_purged_embeddings_are_never_reused(catalog):
    put(catalog, photo("/p/a.jpg", "aa"))
    catalog.remove([Path("/p")])
    assert catalog.purge_orphans() == 1
    assert catalog.purge_orphans() == 0
    put(catalog, photo("/p/a.jpg", "aa"))
    assert catalog.searchable_ids(SPACE).tolist() == [2]


# --- library_info ---


def test_info_counts_files_contents_failures_and_orphans(catalog):
    empty = library_info(catalog)
    assert (empty.images, empty.pictures, empty.bytes, empty.first_taken, empty.models) == (0, 0, 0, None, {SPACE: 0})
    put(
        catalog,
        photo("/p/a.jpg", "aa", size=100, taken_at="2019-05-01T10:00:00"),
        photo("/p/b.jpg", "bb", size=50, taken_at="2021-05-01T10:00:00"),
        copy("/p/c.jpg", "aa", size=100),
        photo("/p/d.jpg", "dd", size=1),
    )
    catalog.remove([Path("/p/d.jpg")])
    catalog.commit_batch(failures=[failure("/p/x"), failure("/p/y"), failure("/p/z", "crashed")])
    catalog.add_roots([Path("/p")], [])
    found = library_info(catalog)
    assert (found.images, found.pictures, found.bytes, found.orphans) == (3, 2, 250, 1)
    assert (found.first_taken, found.last_taken) == ("2019-05-01T10:00:00", "2021-05-01T10:00:00")
    assert found.failures == {"truncated": 2, "crashed": 1}
    assert found.models == {SPACE: 2} and found.roots == ["/p"]
    assert found.to_json()["generated"] == 0
    assert dict(found.lines())["pictures"].startswith("2 in 3 files")
