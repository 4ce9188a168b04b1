"""Searches return exactly what the catalog holds now, whatever happened to it or the store since."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from catalog.samples import DIMENSION, SPACE, copy, failure, id_of, photo, put
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.rows import Embedding
from clipkit.vectors import current_vectors
from clipkit.vectors.current_vectors import (
    CurrentVectors,
    needed_work,
    publish_changes_from_catalog,
    publish_from_catalog,
)
from clipkit.vectors.manifest import read_manifest
from clipkit.vectors.nearest import best_of
from clipkit.vectors.publishing import find_damage, publish

# Their products with the queries are exact, and many tie.
KINDS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5]], np.float32)
QUERIES = np.array([[1, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 0], [-1, 2, -0.5, 3]], np.float32)


def live(catalog: Catalog) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(catalog.searchable_embeddings(SPACE))
    dimension = catalog.spaces()[SPACE][0]
    ids = np.concatenate([np.zeros(0, np.int64), *(c[0] for c in chunks)])
    return ids, np.concatenate([np.zeros((0, dimension), np.float32), *(c[1] for c in chunks)])


def agrees(catalog: Catalog, folder: Path, queries: np.ndarray, allowed: np.ndarray | None = None) -> CurrentVectors:
    """Compare a search over the folder's store with brute force over the catalog; return the CurrentVectors."""
    vectors = CurrentVectors(folder, SPACE, catalog)
    ids, rows = live(catalog)
    assert len(vectors) == len(ids)
    if allowed is not None:
        rows, ids = rows[np.isin(ids, allowed)], ids[np.isin(ids, allowed)]
    for k in (1, 3, len(ids) + 2):
        expected = best_of(np.einsum("qd,nd->qn", queries.astype(np.float64), rows.astype(np.float64)), ids, k)
        scores, found = vectors.search(queries, k, allowed)
        assert found.dtype == np.int64 and scores.dtype == np.float32
        assert np.array_equal(found, expected[1])
        assert np.allclose(scores, expected[0], rtol=0, atol=2e-6)
    assert vectors.search(queries, 0)[1].shape == (len(queries), 0)
    return vectors


def bring_up_to_date(catalog: Catalog, folder: Path) -> str:
    """Publish what is needed, as an indexing run does; return what that was."""
    work = needed_work(folder, SPACE, catalog)
    if work == "everything":
        publish_from_catalog(folder, SPACE, catalog)
    elif work == "changes":
        publish_changes_from_catalog(CurrentVectors(folder, SPACE, catalog), catalog)
    return work


# --- programs ---


@pytest.fixture(scope="module")
def empty_catalog(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.add_space(SPACE, KINDS.shape[1])
        catalog.add_space("other", KINDS.shape[1])
    return path


files, contents = st.integers(0, 7), st.integers(0, 11)
step = st.one_of(
    st.tuples(st.just("add"), files, contents),
    st.tuples(st.just("add"), files, contents),
    st.tuples(st.just("add many"), st.integers(1, 30)),
    st.tuples(st.just("fail"), files),
    st.tuples(st.just("remove"), st.lists(files, min_size=1, max_size=4)),
    st.tuples(st.just("remove many")),
    st.tuples(st.just("scan"), st.sets(files)),
    st.tuples(st.just("purge")),
    st.tuples(st.just("other space"), files, contents),
    st.tuples(st.just("publish")),
    st.tuples(st.just("publish")),
    st.tuples(st.just("publish if needed")),
    st.tuples(st.just("publish late")),
    st.tuples(st.just("publish changes")),
    st.tuples(st.just("forget changes")),
    st.tuples(st.just("tear"), st.integers(0, 5), st.floats(0, 1)),
    st.tuples(st.just("lose"), st.integers(0, 6)),
    st.tuples(st.just("search"), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 99)),
)


class Program:
    """A library that goes through the steps of a hypothesis example."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder, self.catalog, self.many = folder, catalog, 0
        self.searcher = CurrentVectors(folder, SPACE, catalog)

    def do(self, name: str, *arguments) -> None:
        getattr(self, name.replace(" ", "_"))(*arguments)
        vectors = agrees(self.catalog, self.folder, QUERIES)
        assert bool(vectors.note) == bool(find_damage(self.folder) and any(self.folder.glob("*")))

    def _put(self, path: str, content: str, kind: int, space: str = SPACE) -> None:
        known = self.catalog.known_contents([content], space)
        image = copy(path, content) if known else photo(path, content)
        new = [] if known else [Embedding(content, KINDS[kind % len(KINDS)] * 3)]
        self.catalog.commit_batch([image], space=space, embeddings=new)

    def add(self, file: int, content: int) -> None:
        self._put(f"/p/{file}.jpg", f"c{content}", content)

    def other_space(self, file: int, content: int) -> None:
        self._put(f"/p/{file}.jpg", f"c{content}", content, "other")

    def add_many(self, count: int) -> None:
        for _ in range(count):
            self.many += 1
            self._put(f"/m/{self.many}.jpg", f"m{self.many}", self.many)

    def fail(self, file: int) -> None:
        self.catalog.commit_batch(failures=[failure(f"/p/{file}.jpg")])

    def remove(self, which: list[int]) -> None:
        self.catalog.remove([Path(f"/p/{file}.jpg") for file in which])

    def remove_many(self) -> None:
        self.catalog.remove([Path("/m")])

    def scan(self, seen: set[int]) -> None:
        self.catalog.begin_scan()
        self.catalog.mark_seen([Path(f"/p/{file}.jpg") for file in seen])
        self.catalog.remove_vanished([Path("/p")])

    def purge(self) -> None:
        self.catalog.purge_orphans()

    def publish(self) -> None:
        publish_from_catalog(self.folder, SPACE, self.catalog)
        found = CurrentVectors(self.folder, SPACE, self.catalog)
        assert needed_work(self.folder, SPACE, self.catalog) == "nothing" and not found.note
        assert len(found) == found.stored == read_manifest(self.folder).count and not len(found.newer)

    def publish_if_needed(self) -> None:
        bring_up_to_date(self.catalog, self.folder)
        assert needed_work(self.folder, SPACE, self.catalog) == "nothing"

    def publish_changes(self) -> None:
        if needed_work(self.folder, SPACE, self.catalog) != "everything":
            found = CurrentVectors(self.folder, SPACE, self.catalog)
            publish_changes_from_catalog(found, self.catalog)
            assert read_manifest(self.folder).removed == len(found.removed)

    def forget_changes(self) -> None:
        """Forget what the published store includes; or more, as a reader of an older store experiences it."""
        self.catalog.forget_changes(SPACE, self.catalog.spaces()[SPACE][1])

    def publish_late(self) -> None:
        """Search with an object created before the last changes."""
        publish_from_catalog(self.folder, SPACE, self.catalog)
        self.searcher = CurrentVectors(self.folder, SPACE, self.catalog)

    def tear(self, which: int, where: float) -> None:
        files = sorted(self.folder.glob("*"))
        if files:
            path = files[which % len(files)]
            data = path.read_bytes()
            path.write_bytes(data[: int(where * (len(data) - 1))] if data else b"")

    def lose(self, which: int) -> None:
        files = sorted(self.folder.glob("*"))
        if which == 6:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif files:
            files[which % len(files)].unlink()

    def search(self, share: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        ids = np.arange(1, 1 + self.catalog.last_embedding_id(SPACE) + 3)  # including unknown ids and orphans
        agrees(self.catalog, self.folder, QUERIES, rng.permutation(ids[rng.random(len(ids)) < share]))


@example([("add many", 1), ("publish",), ("remove many",), ("purge",)])
@given(st.lists(step, min_size=3, max_size=18))
@settings(max_examples=35, deadline=None)
def test_any_sequence_of_steps(tmp_path_factory, empty_catalog, steps):
    folder = tmp_path_factory.mktemp("program")
    shutil.copy(empty_catalog, folder / "catalog.db")
    with Catalog.open(folder / "catalog.db") as catalog, pytest.MonkeyPatch.context() as patch:
        patch.setattr(current_vectors, "REBUILD_COUNT", 5)
        program = Program(folder / "vectors" / "tiny", catalog)
        for one in steps:
            program.do(*one)
    shutil.rmtree(folder)


# --- one thing at a time ---


def photos(catalog: Catalog, *contents: str) -> None:
    put(catalog, *[photo(f"/p/{content}.jpg", content) for content in contents])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "library" / "vectors" / "tiny"


@pytest.fixture
def queries():
    return np.random.default_rng(1).standard_normal((5, DIMENSION)).astype(np.float32)


def test_an_unpublished_library(catalog, folder, queries):
    found = agrees(catalog, folder, queries)
    assert (len(found), found.stored, found.note) == (0, 0, "")
    assert needed_work(folder, SPACE, catalog) == "everything"
    photos(catalog, "aa", "bb")
    found = agrees(catalog, folder, queries)
    assert (len(found), found.stored, found.newer.shape, found.note) == (2, 0, (2, DIMENSION), "")
    assert not folder.exists()


def test_an_unknown_space(catalog, folder):
    with pytest.raises(KeyError):
        CurrentVectors(folder, "none", catalog)


def test_new_pictures_and_copies_go_to_the_tail(catalog, folder, queries):
    photos(catalog, "aa", "bb")
    publish_from_catalog(folder, SPACE, catalog)
    main = read_manifest(folder).main
    photos(catalog, "cc")
    put(catalog, copy("/q/aa.jpg", "aa"))
    catalog.remove([Path("/p/aa.jpg")])
    found = agrees(catalog, folder, queries)
    assert (found.stored, len(found), len(found.newer)) == (2, 3, 1)
    assert bring_up_to_date(catalog, folder) == "changes"
    found = agrees(catalog, folder, queries)
    assert (found.stored, len(found), len(found.newer), len(found.removed)) == (3, 3, 0, 0)
    manifest = read_manifest(folder)
    assert manifest.main == main and manifest.tail and manifest.tail.count == 1
    assert bring_up_to_date(catalog, folder) == "nothing"


def test_removed_and_restored_pictures(catalog, folder, queries):
    photos(catalog, *(f"o{i}" for i in range(30)))
    publish_from_catalog(folder, SPACE, catalog)
    catalog.remove([Path(f"/p/o{i}.jpg") for i in range(3)])
    found = agrees(catalog, folder, queries)
    assert (found.stored, len(found), len(found.removed)) == (30, 27, 3)
    assert bring_up_to_date(catalog, folder) == "changes"
    catalog.forget_changes(SPACE, found.revision)
    assert (read_manifest(folder).removed, read_manifest(folder).tail, find_damage(folder)) == (3, None, "")
    put(catalog, photo("/p/o0.jpg", "o0"))  # back
    found = agrees(catalog, folder, queries)
    assert (found.stored, len(found), len(found.newer), sorted(found.removed)) == (
        30,
        28,
        0,
        [id_of(catalog, "o1"), id_of(catalog, "o2")],
    )
    assert bring_up_to_date(catalog, folder) == "changes"
    catalog.remove([Path("/p/o0.jpg"), Path("/p/o29.jpg")])
    assert len(agrees(catalog, folder, queries).removed) == 4
    assert bring_up_to_date(catalog, folder) == "everything"
    assert read_manifest(folder).count == 26
    put(catalog, photo("/p/o2.jpg", "o2"))  # in the catalog, but in no segment
    found = agrees(catalog, folder, queries)
    assert (len(found), len(found.newer)) == (27, 1)
    assert bring_up_to_date(catalog, folder) == "changes"
    photos(catalog, "new")
    assert bring_up_to_date(catalog, folder) == "changes"
    found = agrees(catalog, folder, queries)
    assert (found.stored, len(found.newer), len(found.removed)) == (28, 0, 0)


def test_opening_looks_up_only_what_has_changed(catalog, folder, queries, monkeypatch):
    photos(catalog, *(f"o{i}" for i in range(40)))
    publish_from_catalog(folder, SPACE, catalog)
    catalog.remove([Path("/p/o1.jpg")])
    photos(catalog, "new")
    monkeypatch.setattr(Catalog, "searchable_ids", lambda *_: pytest.fail("all ids were read"))
    found = CurrentVectors(folder, SPACE, catalog)
    assert (len(found), found.removed.tolist(), len(found.newer)) == (40, [id_of(catalog, "o1")], 1)


def test_a_catalog_that_was_replaced_by_an_older_one(catalog, folder, queries, tmp_path):
    photos(catalog, "aa", "bb", "cc")
    backup = tmp_path / "backup.db"
    catalog.db.execute("VACUUM INTO ?", [str(backup)])
    catalog.remove([Path("/p/aa.jpg")])
    publish_from_catalog(folder, SPACE, catalog)
    with Catalog.open(backup) as older:
        assert len(agrees(older, folder, queries)) == 3
        assert bring_up_to_date(older, folder) != "nothing"
        assert len(agrees(older, folder, queries).newer) == 0


def test_many_new_pictures_rebuild_the_index(catalog, folder, queries, monkeypatch):
    monkeypatch.setattr(current_vectors, "REBUILD_COUNT", 4)
    monkeypatch.setattr(current_vectors, "REBUILD_SHARE", 0.5)
    photos(catalog, *[f"o{i}" for i in range(10)])
    publish_from_catalog(folder, SPACE, catalog)
    for count, tail in ((4, 4), (5, 5), (6, None)):
        photos(catalog, *[f"n{i}" for i in range(count)])
        assert bring_up_to_date(catalog, folder) == ("changes" if tail else "everything")
        manifest = read_manifest(folder)
        assert (manifest.tail.count if manifest.tail else None) == tail
        assert agrees(catalog, folder, queries).stored == 10 + count


def test_a_few_pictures_are_not_written_to_a_long_tail(catalog, folder, queries):
    photos(catalog, *[f"o{i}" for i in range(50)])
    publish_from_catalog(folder, SPACE, catalog)
    photos(catalog, *[f"n{i}" for i in range(40)])
    assert bring_up_to_date(catalog, folder) == "changes"
    photos(catalog, *[f"m{i}" for i in range(4)])
    assert bring_up_to_date(catalog, folder) == "nothing"
    assert len(agrees(catalog, folder, queries).newer) == 4
    photos(catalog, "m4")
    assert bring_up_to_date(catalog, folder) == "changes"
    assert np.array_equal(CurrentVectors(folder, SPACE, catalog).added_after(50), live(catalog)[1][50:])


@pytest.mark.parametrize("name", ["index-1.faiss", "ids-1.npy", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut", "lost"])
def test_without_an_intact_store_the_note_says_what_to_do(catalog, folder, queries, name, harm):
    photos(catalog, "aa", "bb", "cc")
    publish_from_catalog(folder, SPACE, catalog)
    if harm == "cut":
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    else:
        (folder / name).unlink()
    found = agrees(catalog, folder, queries)
    assert "clipkit check --repair" in found.note and "\n" not in found.note
    assert (found.stored, len(found), needed_work(folder, SPACE, catalog)) == (0, 3, "everything")
    publish_from_catalog(folder, SPACE, catalog)
    found = agrees(catalog, folder, queries)
    assert (found.stored, found.note, find_damage(folder)) == (3, "", "")


@pytest.mark.parametrize(("space", "dimension"), [("other", DIMENSION), (SPACE, DIMENSION + 1)])
def test_a_store_of_another_space_is_not_searched(catalog, folder, queries, space, dimension):
    photos(catalog, "aa")
    vectors = np.ones((1, dimension), np.float32)
    publish(folder, [(np.array([7]), vectors)], space=space, dimension=dimension, watermark=7, revision=0)
    found = agrees(catalog, folder, queries)
    assert "another catalog" in found.note and needed_work(folder, SPACE, catalog) == "everything"


def test_a_reader_keeps_its_snapshot_while_the_library_changes(catalog, folder, queries):
    photos(catalog, "aa", "bb", "cc")
    publish_from_catalog(folder, SPACE, catalog)
    photos(catalog, "dd")
    reader = CurrentVectors(folder, SPACE, catalog)
    before = reader.search(queries, 4)
    catalog.remove([Path("/p/aa.jpg")])
    catalog.purge_orphans()
    publish_from_catalog(folder, SPACE, catalog)
    after = reader.search(queries, 4)
    assert np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])
    agrees(catalog, folder, queries)


def test_identical_pictures_tie_wherever_they_are_stored(catalog, folder):
    same = np.random.default_rng(2).standard_normal(DIMENSION).astype(np.float32)
    queries = np.random.default_rng(3).standard_normal((8, DIMENSION)).astype(np.float32)
    for i in range(90):
        catalog.commit_batch([photo(f"/p/{i}.jpg", f"s{i}")], space=SPACE, embeddings=[Embedding(f"s{i}", same)])
        if i == 60:
            publish_from_catalog(folder, SPACE, catalog)
    found = CurrentVectors(folder, SPACE, catalog)
    for allowed in (None, np.arange(2, 90, 3), np.arange(59, 64), np.array([3, 80])):
        scores, ids = found.search(queries, 7, allowed)
        expected = np.arange(1, 91) if allowed is None else allowed
        assert ids.tolist() == [(expected.tolist()[:7] + [-1] * 7)[:7]] * 8
        assert all(len(set(row[np.isfinite(row)].tolist())) == 1 for row in scores)


def test_publishing_a_library_in_chunks(catalog, folder, queries):
    many = [photo(f"/p/{i}.jpg", f"x{i}") for i in range(5000)]
    vectors = np.random.default_rng(4).standard_normal((5000, DIMENSION)).astype(np.float32)
    new = [Embedding(image.hash, vector) for image, vector in zip(many, vectors, strict=True)]
    catalog.commit_batch(many, space=SPACE, embeddings=new)
    manifest = publish_from_catalog(folder, SPACE, catalog)
    assert (manifest.count, manifest.watermark, manifest.revision) == (5000, 5000, 0)
    scores, ids = CurrentVectors(folder, SPACE, catalog).search(queries, 3)
    rows = live(catalog)[1]
    assert np.allclose(scores, np.take_along_axis(queries @ rows.T, ids - 1, 1), atol=2e-6)
    assert np.array_equal(np.sort(ids, 1), np.sort(np.argsort(-(queries @ rows.T), 1)[:, :3] + 1, 1))
