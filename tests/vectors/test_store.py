"""A published store matches brute force, is replaced atomically, and detects corrupt files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from catalog.samples import start
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.errors import LibraryDamaged
from clipkit.vectors.manifest import Manifest, read_manifest
from clipkit.vectors.nearest import best_of
from clipkit.vectors.plan import EXACT
from clipkit.vectors.publishing import find_damage, publish, publish_changes
from clipkit.vectors.store import FaissStore

SPACE = "tiny"


def brute_force(vectors, ids, queries, k, allowed=None):
    """Return the expected search results, computed in float64."""
    if allowed is not None:
        vectors, ids = vectors[allowed], ids[allowed]
    scores = np.einsum("qd,nd->qn", queries.astype(np.float64), vectors.astype(np.float64))  # not BLAS: equal rows tie
    return best_of(scores, ids, k)


def unit(rng, n, d):
    """Return unit vectors float32 (n, d), rounded to half precision like those of a catalog."""
    vectors = rng.standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def grid(rng, n, d):
    """Return vectors float32 (n, d) with few bits: their products are exact, so that there are many ties."""
    return (rng.integers(-8, 9, (n, d)) / 16).astype(np.float32)


def put(folder: Path, ids: np.ndarray, vectors: np.ndarray, *, chunk: int = 700, revision: int = 0) -> Manifest:
    chunks = [(ids[i : i + chunk], vectors[i : i + chunk]) for i in range(0, len(ids), chunk)]
    watermark = int(ids[-1]) if len(ids) else 0
    return publish(folder, chunks, space=SPACE, dimension=vectors.shape[1], watermark=watermark, revision=revision)


def rising(rng, n):
    return np.cumsum(rng.integers(1, 5, n)).astype(np.int64)


def same(found, expected):
    assert found[0].dtype == np.float32 and found[1].dtype == np.int64
    assert np.array_equal(found[1], expected[1])
    assert np.allclose(found[0], expected[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("n", "d"), [(1, 3), (5, 8), (2000, 32), (3000, 65), (300, 512)])
@pytest.mark.parametrize("k", [1, 10, 4000])
def test_search_matches_brute_force(tmp_path, n, d, k):
    rng = np.random.default_rng(n * d)
    vectors, ids, queries = grid(rng, n, d), rising(rng, n), grid(rng, 7, d)
    manifest = put(tmp_path, ids, vectors)
    store = FaissStore.open(tmp_path)
    assert (len(store), store.dimension, manifest.count, manifest.space) == (n, d, n, SPACE)
    assert store.manifest == read_manifest(tmp_path) and find_damage(tmp_path) == ""
    one = np.zeros(n, bool)
    one[n // 2] = True
    masks = [None, np.ones(n, bool), np.zeros(n, bool), one, rng.random(n) < 0.5, rng.random(n) < 0.02, ~one]
    for allowed in masks:
        found = store.search(queries, k, allowed)
        assert found[0].shape == found[1].shape == (7, k)
        same(found, brute_force(vectors, ids, queries, k, allowed))
        missing = found[1] == -1
        assert np.isneginf(found[0][missing]).all() and np.isfinite(found[0][~missing]).all()


def test_an_empty_store(tmp_path):
    put(tmp_path, np.zeros(0, np.int64), np.zeros((0, 8), np.float32))
    store = FaissStore.open(tmp_path)
    assert len(store) == 0 and find_damage(tmp_path) == ""
    scores, ids = store.search(np.ones((2, 8), np.float32), 3)
    assert (ids == -1).all() and np.isneginf(scores).all() and ids.shape == (2, 3)
    assert store.search(np.ones((2, 8), np.float32), 3, np.zeros(0, bool))[1].shape == (2, 3)
    assert store.reconstruct(np.zeros(0, np.int64)).shape == (0, 8)
    with pytest.raises(KeyError):
        store.reconstruct(np.array([1]))


def test_no_queries_and_no_k(tmp_path):
    put(tmp_path, np.array([3, 4]), np.eye(2, dtype=np.float32))
    store = FaissStore.open(tmp_path)
    assert store.search(np.zeros((0, 2), np.float32), 3)[1].shape == (0, 3)
    assert store.search(np.ones((2, 2), np.float32), 0)[1].shape == (2, 0)
    assert store.search(np.asfortranarray(np.eye(2)), 1)[1].tolist() == [[3], [4]]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.integers(1, 70), st.floats(0, 1))
@settings(max_examples=35, deadline=None)
def test_ties_go_to_the_smaller_id_under_any_mask(tmp_path_factory, seed, n, kinds, k, share):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("ties")
    vectors, ids = unit(rng, kinds, 33)[rng.integers(0, kinds, n)], rising(rng, n)
    put(folder, ids, vectors)
    store, queries = FaissStore.open(folder), np.concatenate([unit(rng, 3, 33), np.zeros((1, 33), np.float32)])
    for allowed in (None, rng.random(n) < share):
        found = store.search(queries, k, allowed)
        same(found, brute_force(vectors, ids, queries, k, allowed))


def test_scores_do_not_depend_on_the_mask(tmp_path):
    rng = np.random.default_rng(3)
    vectors, ids, queries = unit(rng, 500, 48), rising(rng, 500), unit(rng, 3, 48)
    put(tmp_path, ids, vectors)
    store = FaissStore.open(tmp_path)
    scores, found = store.search(queries, 500)
    of = [dict(zip(row.tolist(), values.tolist(), strict=True)) for row, values in zip(found, scores, strict=True)]
    for share in (0.01, 0.04, 0.5):
        scores, found = store.search(queries, 5, rng.random(500) < share)
        for query in range(3):
            assert [of[query].get(int(i), -np.inf) for i in found[query]] == scores[query].tolist()


def test_reconstruct_returns_exact_values(tmp_path):
    rng = np.random.default_rng(4)
    vectors, ids = unit(rng, 50, 16), rising(rng, 50)
    vectors[0, :4] = np.float16([6e-8, -1e-7, 3e-6, 0])  # subnormal
    put(tmp_path, ids, vectors)
    store = FaissStore.open(tmp_path)
    order = rng.permutation(50)
    assert np.array_equal(store.reconstruct(ids[order]), vectors[order])
    assert store.reconstruct(ids[[7, 7]]).shape == (2, 16)
    for strange in (0, int(ids[-1]) + 1, next(i for i in range(1, 200) if i not in ids)):
        with pytest.raises(KeyError):
            store.reconstruct(np.array([ids[0], strange]))


# --- replacing ---


def files(folder: Path) -> set[str]:
    return {re.sub(r"-\d+", "", path.name) for path in folder.iterdir()}


WHOLE = {"index.faiss", "ids.npy", "manifest.json"}


def test_a_reader_keeps_the_store_it_opened(tmp_path):
    rng = np.random.default_rng(5)
    old, new, queries = grid(rng, 1500, 16), grid(rng, 900, 16), grid(rng, 4, 16)
    put(tmp_path, np.arange(1, 1501), old, revision=1)
    reader = FaissStore.open(tmp_path)
    put(tmp_path, np.arange(2001, 2901), new, revision=2)
    put(tmp_path, np.arange(2001, 2901), new, revision=3)
    same(reader.search(queries, 5), brute_force(old, np.arange(1, 1501), queries, 5))
    assert np.array_equal(reader.reconstruct(np.array([1500])), old[-1:])
    again = FaissStore.open(tmp_path)
    same(again.search(queries, 5), brute_force(new, np.arange(2001, 2901), queries, 5))
    assert again.manifest.revision == 3
    assert len(list(tmp_path.iterdir())) == 3 and files(tmp_path) == WHOLE


def test_leftovers_are_deleted_and_other_files_are_not(tmp_path):
    put(tmp_path, np.array([1]), np.eye(1, 4, dtype=np.float32))
    (tmp_path / "index-77.faiss").write_bytes(b"half")
    (tmp_path / "ids-x.npy").write_bytes(b"")
    (tmp_path / ".0123456789abcdef.clipkit-new").write_text("{")
    (tmp_path / "matcher.npz").write_bytes(b"mine")
    put(tmp_path, np.array([1, 2]), np.eye(2, 4, dtype=np.float32))
    assert files(tmp_path) == WHOLE | {"matcher.npz"} and len(list(tmp_path.iterdir())) == 4
    assert len(FaissStore.open(tmp_path)) == 2


def test_a_failed_publish_leaves_only_the_old_store(tmp_path):
    put(tmp_path, np.array([1]), np.eye(1, 4, dtype=np.float32))

    def chunks():
        yield np.array([1]), np.eye(1, 4, dtype=np.float32)
        raise OSError("the catalog cannot be read")

    with pytest.raises(OSError, match="cannot be read"):
        publish(tmp_path, chunks(), space=SPACE, dimension=4, watermark=1, revision=0)
    assert len(FaissStore.open(tmp_path)) == 1 and len(list(tmp_path.iterdir())) == 3


FULL_DISK = """
import errno, resource, signal
from pathlib import Path
import numpy as np
from clipkit.vectors.plan import EXACT
from clipkit.vectors.publishing import find_damage, publish, publish_changes
from clipkit.vectors.store import FaissStore
folder, signal_ = Path(sys.argv[1]), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
vectors = np.random.default_rng(0).standard_normal((1000, 32)).astype(np.float32)
def put(count):
    chunk = np.arange(1, count + 1), vectors[:count]
    publish(folder, [chunk], space="tiny", dimension=32, watermark=count, revision=0)
put(10)
for limit in (0, 50, 100, 1000, 7000, 20_000, 40_000, 64_000, 64_080):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        put(1000)
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError(f"{limit} bytes were enough")
    assert len(FaissStore.open(folder)) == 10 and find_damage(folder) == "", limit
    assert len(list(folder.iterdir())) == 3, list(folder.iterdir())
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits on the size of files")
def test_a_full_disk_leaves_the_old_store(tmp_path):
    process = start(FULL_DISK, tmp_path)
    assert process.communicate()[0] == "done\n" and process.returncode == 0


PUBLISHER = """
from pathlib import Path
import faiss  # before it is ready, so that a kill hits a publish and not this import
import numpy as np
from clipkit.vectors.publishing import publish
from vectors.test_store import contents, put
folder = Path(sys.argv[1])
versions = [contents(revision) for revision in range(4)]
print("ready", flush=True)
for revision in range(100_000):
    put(folder, *versions[revision % 4], revision=revision % 4)
"""


def contents(revision: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and vectors that the publisher writes with this revision."""
    rng = np.random.default_rng(revision)
    n = 1000 + 700 * revision
    return np.arange(1, n + 1) + 10_000 * revision, unit(rng, n, 24)


def holds(folder: Path) -> int:
    """Return the store's revision, after checking that it is that revision completely."""
    store = FaissStore.open(folder)
    ids, vectors = contents(store.manifest.revision)
    assert np.array_equal(store.ids, ids)
    assert np.array_equal(store.reconstruct(ids), vectors)
    assert find_damage(folder) == ""
    return store.manifest.revision


def stop(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_killed_publisher_leaves_the_old_or_the_new_store(tmp_path):
    rng = np.random.default_rng(6)
    put(tmp_path, *contents(0), revision=0)
    leftovers = 0
    for turn in range(60):
        if turn >= 8 and leftovers:  # a busy machine needs more turns to hit a publisher at work
            break
        process = start(PUBLISHER, tmp_path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.12))
        stop(process)
        holds(tmp_path)
        leftovers += len(list(tmp_path.iterdir())) > 3
        if rng.random() < 0.5:  # otherwise the next publisher finds what this one left
            put(tmp_path, *contents(2), revision=2)
            assert holds(tmp_path) == 2
            assert len(list(tmp_path.iterdir())) == 3
    assert leftovers


def test_opening_while_another_process_keeps_publishing(tmp_path):
    put(tmp_path, *contents(0), revision=0)
    process = start(PUBLISHER, tmp_path)
    assert process.stdout.readline() == "ready\n"
    try:
        seen, deadline = {holds(tmp_path) for _ in range(60)}, time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < deadline:  # on a busy machine the other process may not have run yet
            seen.add(holds(tmp_path))
        assert len(seen) > 1
    finally:
        stop(process)


# --- damage ---


@pytest.fixture
def small(tmp_path):
    put(tmp_path, np.arange(1, 7), unit(np.random.default_rng(7), 6, 8))
    return tmp_path


def test_nothing_published(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError):
            FaissStore.open(folder)
        assert "no published index" in find_damage(folder)


@pytest.mark.parametrize("name", ["index-1.faiss", "ids-1.npy", "manifest.json"])
def test_missing_and_truncated_files(small, name):
    whole = (small / name).read_bytes()
    for length in {0, 1, 7, len(whole) // 2, len(whole) - 1}:
        (small / name).write_bytes(whole[:length])
        with pytest.raises(LibraryDamaged, match="repair") as error:
            FaissStore.open(small)
        assert "\n" not in str(error.value)
        assert find_damage(small) and "\n" not in find_damage(small)
    (small / name).unlink()
    with pytest.raises((LibraryDamaged, FileNotFoundError)):
        FaissStore.open(small)
    assert find_damage(small)
    put(small, np.array([9]), np.eye(1, 8, dtype=np.float32))
    assert find_damage(small) == "" and FaissStore.open(small).ids.tolist() == [9]


def flip_bits(folder: Path, name: str, *, step: int) -> list[bool]:
    """Flip every `step`th bit of a file; each is found as damage, and a search crashes on none.

    Return which of them a search refused.
    """
    whole, refused = (folder / name).read_bytes(), []
    for bit in range(0, 8 * len(whole), step):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(flipped)
        assert find_damage(folder), bit
        try:
            FaissStore.open(folder).search(np.ones((1, 8), np.float32), 3)
        except LibraryDamaged as error:
            assert "\n" not in str(error)
            refused.append(True)
        else:
            refused.append(False)
    return refused


@pytest.mark.parametrize("name", ["index-1.faiss", "ids-1.npy", "manifest.json"])
def test_every_flipped_bit_is_found_and_none_crashes(small, name):
    refused = flip_bits(small, name, step=5)
    # Opening reads only the heads of the other files.
    assert name != "manifest.json" or all(refused)


def test_files_of_two_stores_do_not_mix(small, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    put(other, np.arange(1, 8), unit(np.random.default_rng(8), 7, 8))
    os.replace(other / "ids-1.npy", small / "ids-1.npy")
    with pytest.raises(LibraryDamaged):
        FaissStore.open(small)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "7", "{}", '{"manifest": 1, "checksum": 2}', "[" * 100_000, "\udcff"]
)
def test_invalid_manifests(small, text):
    (small / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LibraryDamaged):
        FaissStore.open(small)
    assert "corrupt" in find_damage(small)


def test_a_store_in_a_later_format(small):
    from clipkit.vectors.manifest import digest

    manifest = json.loads((small / "manifest.json").read_text())["manifest"] | {"format": 99}
    (small / "manifest.json").write_text(json.dumps({"manifest": manifest, "checksum": digest(manifest)}))
    with pytest.raises(LibraryDamaged):
        FaissStore.open(small)


def test_a_store_of_the_first_format(small):
    """A manifest written before stores had a tail: one exact segment."""
    from clipkit.vectors.manifest import digest

    manifest = json.loads((small / "manifest.json").read_text())["manifest"]
    main = manifest.pop("main")
    old = {name: manifest[name] for name in ("space", "dimension", "watermark", "revision")}
    old |= {name: main[name] for name in ("count", "files", "head")} | {"format": 1}
    before = FaissStore.open(small)
    (small / "manifest.json").write_text(json.dumps({"manifest": old, "checksum": digest(old)}))
    after = FaissStore.open(small)
    assert after.manifest.main.plan == EXACT and after.manifest.tail is None and find_damage(small) == ""
    assert np.array_equal(after.ids, before.ids)
    assert np.array_equal(after.reconstruct(after.ids), before.reconstruct(before.ids))
    publish_changes(small, [(np.array([99]), np.eye(1, 8, dtype=np.float32))], np.array([2]), watermark=99, revision=1)
    manifest = read_manifest(small)
    assert (manifest.format, manifest.main, manifest.count, manifest.removed) == (2, after.manifest.main, 7, 1)
    assert find_damage(small) == ""


@pytest.mark.parametrize("name", ["index-2.faiss", "ids-2.npy", "removed-3.npy"])
def test_a_damaged_tail(small, name):
    tail = [(np.array([99, 98]), np.eye(2, 8, dtype=np.float32))]
    publish_changes(small, tail, np.array([2, 5]), watermark=99, revision=1)
    whole = (small / name).read_bytes()
    for length in (0, 7, len(whole) - 1):
        (small / name).write_bytes(whole[:length])
        with pytest.raises(LibraryDamaged, match="repair"):
            FaissStore.open(small)
        assert find_damage(small)
    (small / name).write_bytes(whole)
    flip_bits(small, name, step=11)
    (small / name).unlink()
    with pytest.raises(LibraryDamaged):
        FaissStore.open(small)


def test_the_tail_grows_and_unlisted_files_are_deleted(small):
    rng = np.random.default_rng(9)
    added, ids = unit(rng, 5, 8), np.array([20, 21, 15, 30, 22])
    for row in range(5):
        publish_changes(small, [(ids[[row]], added[[row]])], ids[:row:2], watermark=30, revision=row)
    store = FaissStore.open(small)
    assert store.ids.tolist() == [1, 2, 3, 4, 5, 6, *ids.tolist()] and store.removed.tolist() == [20, 15]
    assert np.array_equal(store.reconstruct(ids[::-1]), added[::-1])
    assert np.array_equal(store.added_after(8), added[2:]) and store.added_after(5) is None
    assert store.added_after(11).shape == (0, 8) and store.added_after(12) is None
    assert sorted(store.positions(np.array([15, 3, 77]))) == [2, 8]
    assert len(list(small.iterdir())) == 6
    found = store.search(added, 1)[1]
    assert found[:, 0].tolist() == ids.tolist()
