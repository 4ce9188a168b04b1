"""Inverted lists find what an exact search finds, with its scores, and detect corrupt files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalog.samples import SPACE, photo

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.rows import Embedding
from clipkit.errors import LibraryDamaged
from clipkit.vectors.current_vectors import (
    CurrentVectors,
    needed_work,
    publish_changes_from_catalog,
    publish_from_catalog,
)
from clipkit.vectors.manifest import Manifest, describe_index, read_manifest
from clipkit.vectors.plan import EXACT, IVF_FROM, IndexPlan, plan_for
from clipkit.vectors.publishing import find_damage, publish
from clipkit.vectors.store import FaissStore
from vectors.test_store import brute_force, same, unit

COUNT, DIMENSION, LISTS = 4000, 24, 32
PLAN = IndexPlan(lists=LISTS)


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return unit vectors, float32 (n, d) with half-precision values, around forty centres."""
    centres = np.random.default_rng(99).standard_normal((40, DIMENSION))
    vectors = centres[rng.integers(0, 40, count)] + 0.4 * rng.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def texts(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return queries that lie away from the vectors, as texts do from pictures."""
    return unit(rng, count, DIMENSION)


IDS = np.arange(1, COUNT + 1) * 3
VECTORS = clustered(np.random.default_rng(0), COUNT)
VECTORS[100:140] = VECTORS[7]  # copies: they must tie
HELD_OUT = texts(np.random.default_rng(1), 200)


def put(folder: Path, plan: IndexPlan = PLAN, progress=None) -> Manifest:
    chunks = ((IDS[i : i + 700], VECTORS[i : i + 700]) for i in range(0, COUNT, 700))
    return publish(
        folder,
        chunks,
        space=SPACE,
        dimension=DIMENSION,
        watermark=int(IDS[-1]),
        revision=0,
        plan=plan,
        queries=HELD_OUT,
        progress=progress,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ivf")
    put(folder)
    return folder


@pytest.fixture
def folder(built, tmp_path):
    shutil.copytree(built, tmp_path / "store")
    return tmp_path / "store"


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)]))


def test_the_plan_follows_the_number_of_vectors():
    assert plan_for(IVF_FROM - 1) == EXACT and plan_for(1_000_000).factory == "IVF4096,SQfp16"
    assert plan_for(10_000_000).factory == "IVF16384,SQ8" and EXACT.factory == "SQfp16"


def test_the_number_of_probes_reaches_the_recall_that_was_asked_for(built):
    manifest, store = read_manifest(built), FaissStore.open(built)
    assert manifest.main.plan == PLAN and 1 < manifest.main.nprobe < LISTS and manifest.main.recall >= 0.99
    assert find_damage(built) == "" and np.array_equal(store.ids, IDS)
    expected = brute_force(VECTORS, IDS, HELD_OUT, 10)[1]
    found = store.search(HELD_OUT, 10)[1]
    assert 0.985 <= recall(found, expected) <= 1
    others = texts(np.random.default_rng(2), 200)
    assert recall(store.search(others, 10)[1], brute_force(VECTORS, IDS, others, 10)[1]) > 0.95
    low = put(built.parent / "low", replace(PLAN, recall=0.5))
    assert low.main.nprobe < manifest.main.nprobe and 0.5 <= low.main.recall < 0.9


def test_scores_and_ties_are_those_of_an_exact_store(built, tmp_path):
    put(tmp_path, EXACT)
    exact, lists = FaissStore.open(tmp_path), FaissStore.open(built)
    queries = np.concatenate([texts(np.random.default_rng(3), 20), VECTORS[[7, 500]]])
    for query in queries:
        scores, ids = exact.search(query[None], COUNT)
        of = dict(zip(ids[0].tolist(), scores[0].tolist(), strict=True))
        scores, ids = lists.search(query[None], 10)
        assert [of[i] for i in ids[0].tolist()] == scores[0].tolist()
    scores, ids = lists.search(VECTORS[[7]], 20)
    assert len(set(scores[0].tolist())) == 1 and ids[0].tolist() == [24, *IDS[100:119].tolist()]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.06, 0.3, 0.9, 1.0])
def test_filters(built, share):
    store, rng = FaissStore.open(built), np.random.default_rng(4)
    allowed = rng.random(COUNT) < share
    queries = texts(rng, 30)
    expected = brute_force(VECTORS, IDS, queries, 10, allowed)
    scores, ids = store.search(queries, 10, allowed)
    if share <= 0.06:  # gathered, or few enough that all lists are probed
        same((scores, ids), expected)
    else:
        assert recall(ids, expected[1]) > 0.97
        assert np.isin(ids, IDS[allowed]).all()


def test_more_results_than_the_probed_lists_hold(built):
    store, query = FaissStore.open(built), HELD_OUT[:2]
    for k in (COUNT, COUNT + 5):
        same(store.search(query, k), brute_force(VECTORS, IDS, query, k))
    few = np.zeros(COUNT, bool)
    far = np.argsort(VECTORS @ HELD_OUT[0])[:300]
    few[far] = True
    same(store.search(HELD_OUT[:1], 10, few), brute_force(VECTORS, IDS, HELD_OUT[:1], 10, few))
    assert store.search(query, 0)[1].shape == (2, 0)
    assert store.search(np.zeros((0, DIMENSION), np.float32), 5)[1].shape == (0, 5)


def test_reconstruct_returns_the_stored_values(built):
    store, order = FaissStore.open(built), np.random.default_rng(5).permutation(COUNT)
    assert np.array_equal(store.reconstruct(IDS[order]), VECTORS[order])
    with pytest.raises(KeyError):
        store.reconstruct(np.array([1]))


def test_progress_is_reported(tmp_path):
    reports = []
    put(tmp_path, progress=reports.append)
    assert {r.stage for r in reports} == {
        "clustering vectors",
        "sorting vectors into lists",
        "writing the search index",
    }
    assert all(0 <= r.done <= r.total for r in reports)
    assert not list(tmp_path.glob(".*"))


def test_queries_are_needed(tmp_path):
    with pytest.raises(ValueError, match="queries"):
        publish(tmp_path, [], space=SPACE, dimension=8, watermark=0, revision=0, plan=PLAN)


# --- with a catalog ---


def add(catalog: Catalog, numbers: range) -> None:
    images = [photo(f"/p/{i}.jpg", f"{i:05}") for i in numbers]
    new = [Embedding(f"{i:05}", VECTORS[i]) for i in numbers]
    catalog.commit_batch(images, space="lists", embeddings=new)


@pytest.fixture(scope="module")
def filled_catalog(tmp_path_factory, new_catalog):
    path = tmp_path_factory.mktemp("filled") / "catalog.db"
    shutil.copy(new_catalog, path)
    with Catalog.open(path) as catalog:
        catalog.add_space("lists", DIMENSION)
        add(catalog, range(3000))
    return path


@pytest.fixture
def library(tmp_path, filled_catalog):
    shutil.copy(filled_catalog, tmp_path / "catalog.db")
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        yield catalog, tmp_path / "vectors"


def plans(bits: int):
    return lambda count: IndexPlan(lists=LISTS, bits=bits, recall=1.0) if count >= 2000 else EXACT


@pytest.mark.parametrize("bits", [16, 8])
def test_the_main_index_stays_while_the_library_changes(library, bits):
    catalog, folder = library
    some, queries = plans(bits), texts(np.random.default_rng(6), 12)

    def agrees() -> CurrentVectors:
        current = CurrentVectors(folder, "lists", catalog)
        chunks = list(catalog.searchable_embeddings("lists"))
        ids, rows = np.concatenate([c[0] for c in chunks]), np.concatenate([c[1] for c in chunks])
        assert len(current) == len(ids)
        for allowed in (None, ids[::2], ids[5:25]):
            inside = None if allowed is None else np.isin(ids, allowed)
            expected = brute_force(rows, ids, queries, 10, inside)
            scores, found = current.search(queries, 10, allowed)
            assert recall(found, expected[1]) >= 0.98
            of = [dict(zip(ids.tolist(), row.tolist(), strict=True)) for row in queries @ rows.T]
            for query in range(len(queries)):
                assert scores[query] == pytest.approx([of[query][i] for i in found[query].tolist()], abs=1e-5)
        return current

    publish_from_catalog(folder, "lists", catalog, queries=HELD_OUT, plans=some)
    main = read_manifest(folder).main
    assert main.plan == some(3000) and needed_work(folder, "lists", catalog, some) == "nothing"
    add(catalog, range(3000, 3060))
    catalog.remove([Path(f"/p/{i}.jpg") for i in range(50)])
    assert len(agrees().newer) == 60
    assert needed_work(folder, "lists", catalog, some) == "changes"
    publish_changes_from_catalog(CurrentVectors(folder, "lists", catalog), catalog)
    current = agrees()
    manifest = read_manifest(folder)
    assert (manifest.main, manifest.tail.count, manifest.removed) == (main, 60, 50)
    assert (current.stored, len(current), len(current.newer)) == (3060, 3010, 0)
    assert describe_index(folder)["type"] == ("IVF32,SQfp16" if bits == 16 else "IVF32,SQ8")
    assert find_damage(folder) == ""
    catalog.purge_orphans()
    agrees()


def test_an_exact_store_of_a_library_that_has_outgrown_it(library):
    catalog, folder = library
    publish_from_catalog(folder, "lists", catalog)
    assert needed_work(folder, "lists", catalog, plans(16)) == "everything"
    publish_from_catalog(folder, "lists", catalog, queries=HELD_OUT, plans=plans(16))
    assert needed_work(folder, "lists", catalog, plans(16)) == "nothing"


# --- damage ---

NAMES = ["index-1.faiss", "ids-1.npy", "lists-1.bin", "slots-1.npy", "manifest.json"]


@pytest.mark.parametrize("name", NAMES)
def test_missing_and_truncated_files(folder, name):
    whole = (folder / name).read_bytes()
    for length in (0, 1, 7, len(whole) // 2, len(whole) - 1):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(LibraryDamaged, match="repair"):
            FaissStore.open(folder)
        assert find_damage(folder)
    (folder / name).unlink()
    with pytest.raises((LibraryDamaged, FileNotFoundError)):
        FaissStore.open(folder)
    put(folder)
    assert find_damage(folder) == ""


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_are_found_and_none_crashes(folder, name):
    path, rng = folder / name, np.random.default_rng(8)
    whole = path.read_bytes()
    filtered = np.random.default_rng(9).random(COUNT) < 0.03
    places = {*range(0, min(len(whole), 200), 20), *rng.integers(0, len(whole), 15).tolist()}
    for place in sorted(places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        assert find_damage(folder), place
        try:
            store = FaissStore.open(folder)
            store.search(HELD_OUT[:3], 10)
            store.search(HELD_OUT[:3], 10, filtered)
        except LibraryDamaged as error:
            assert "\n" not in str(error)
        else:
            assert name not in ("manifest.json", "index-1.faiss")  # verified before FAISS parses them


@pytest.mark.parametrize("bad", [COUNT, 2**40, -5])
def test_row_numbers_and_places_outside_the_store(folder, bad):
    path = folder / "slots-1.npy"
    slots = np.load(path)
    slots[:] = bad + 10**6 if bad > 0 else bad
    np.save(path, slots)
    store = FaissStore.open(folder)
    with pytest.raises(LibraryDamaged, match="repair"):
        store.search(HELD_OUT[:1], 10, np.arange(COUNT) < 20)
    path, size = folder / "lists-1.bin", 2 * DIMENSION
    content = path.read_bytes()
    for row in range(200, COUNT, 200):  # row numbers stand behind each list's vectors
        content = content.replace(np.int64(row).tobytes(), np.int64(bad).tobytes())
    path.write_bytes(content)
    assert len(content) % size == 0
    try:
        ids = FaissStore.open(folder).search(HELD_OUT, 50)[1]
        assert np.isin(ids[ids >= 0], IDS).all()
    except LibraryDamaged as error:
        assert "repair" in str(error)
