"""The search index of a library follows it: small changes are added, large ones rebuild it, searches agree always."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from catalog.samples import photo

from clipkit import Library
from clipkit.catalog.rows import Embedding
from clipkit.indexing.search_index import publish_search_index
from clipkit.matching import Matcher
from clipkit.models.loading import load_encoder
from clipkit.searching.library_matcher import current_matcher, fit_matcher
from clipkit.vectors.current_vectors import CurrentVectors
from clipkit.vectors.manifest import read_manifest
from clipkit.vectors.plan import EXACT, IndexPlan

COUNT = 2500


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("tiny", search=True)


def add(library: Library, numbers: range) -> None:
    """Add pictures without files: vectors around the texts of a few scenes."""
    rng = np.random.default_rng(numbers.start)
    centres = np.random.default_rng(0).standard_normal((30, library.catalog.spaces()["tiny"][0]))
    vectors = centres[rng.integers(0, 30, len(numbers))] + 0.5 * rng.standard_normal((len(numbers), centres.shape[1]))
    new = [Embedding(f"{i:06}", vector.astype(np.float32)) for i, vector in zip(numbers, vectors, strict=True)]
    library.catalog.commit_batch([photo(f"/p/{i}.jpg", f"{i:06}") for i in numbers], space="tiny", embeddings=new)


@pytest.fixture(scope="module")
def made(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("made") / "library"
    with Library.create(folder, "tiny") as library:
        add(library, range(COUNT))
        assert publish_search_index(library.catalog, library.layout, encoder)
    return folder


@pytest.fixture
def library(made, tmp_path):
    shutil.copytree(made, tmp_path / "library")
    with Library.open(tmp_path / "library") as library:
        yield library


def bring_up_to_date(library: Library, encoder, **options) -> bool:
    return publish_search_index(library.catalog, library.layout, encoder, **options)


def statistics(library: Library) -> Matcher:
    return Matcher.load(library.layout.match_statistics("tiny"))


def equal(one: Matcher, other: Matcher, encoder) -> None:
    """Compare two match decisions by what they answer."""
    queries = encoder.encode_texts(["a dog", "a red car on the beach", "three apples"])
    hits = queries[::-1]
    assert one.count == other.count
    for query in queries:
        assert one.confidence_from_hits(query, hits) == pytest.approx(other.confidence_from_hits(query, hits), abs=1e-4)


def test_new_pictures_update_the_index_and_the_statistics(library, encoder):
    folder = library.layout.vectors("tiny")
    main = read_manifest(folder).main
    assert not bring_up_to_date(library, encoder)
    add(library, range(COUNT, COUNT + 20))
    assert bring_up_to_date(library, encoder)
    manifest = read_manifest(folder)
    assert manifest.main == main and manifest.tail.count == 20
    equal(statistics(library), fit_matcher(library.catalog, encoder), encoder)
    assert not bring_up_to_date(library, encoder)


def test_statistics_count_removed_pictures_until_the_index_is_rebuilt(library, encoder):
    library.remove([f"/p/{i}.jpg" for i in range(100)])
    assert bring_up_to_date(library, encoder)
    assert (statistics(library).count, read_manifest(library.layout.vectors("tiny")).removed) == (COUNT, 100)
    assert not bring_up_to_date(library, encoder)
    assert library.catalog.db.execute("SELECT COUNT(*) FROM changed_embeddings").fetchone()[0] == 0
    library.remove([f"/p/{i}.jpg" for i in range(100, 300)])
    assert bring_up_to_date(library, encoder)
    assert (statistics(library).count, read_manifest(library.layout.vectors("tiny")).removed) == (COUNT - 300, 0)
    equal(statistics(library), fit_matcher(library.catalog, encoder), encoder)


def test_statistics_that_were_not_saved_are_brought_up_to_date(library, encoder):
    path = library.layout.match_statistics("tiny")
    before = path.read_bytes()
    add(library, range(COUNT, COUNT + 30))
    bring_up_to_date(library, encoder)
    path.write_bytes(before)  # as if the process had been killed before it saved them
    add(library, range(COUNT + 30, COUNT + 33))
    current = CurrentVectors(library.layout.vectors("tiny"), "tiny", library.catalog)
    assert (current.stored, len(current.newer)) == (COUNT + 30, 3)
    found = current_matcher(path, library.catalog, encoder, current)
    equal(found, fit_matcher(library.catalog, encoder), encoder)
    bring_up_to_date(library, encoder)
    assert statistics(library).count == read_manifest(library.layout.vectors("tiny")).count == COUNT + 33


def test_a_search_never_fits_again_what_another_process_has_just_rebuilt(library, encoder, monkeypatch):
    before = CurrentVectors(library.layout.vectors("tiny"), "tiny", library.catalog)
    library.remove([f"/p/{i}.jpg" for i in range(200)])
    assert bring_up_to_date(library, encoder, always=True)
    monkeypatch.setattr(
        "clipkit.searching.library_matcher.fit_matcher", lambda *_: pytest.fail("the statistics were fitted again")
    )
    path = library.layout.match_statistics("tiny")
    assert current_matcher(path, library.catalog, encoder, before).count == COUNT - 200


def test_lost_statistics_are_fitted_again(library, encoder):
    path = library.layout.match_statistics("tiny")
    path.unlink()
    assert bring_up_to_date(library, encoder) and statistics(library).count == COUNT
    library.remove(["/p/0.jpg"])
    path.unlink()
    assert bring_up_to_date(library, encoder) and statistics(library).count == COUNT - 1
    assert not bring_up_to_date(library, encoder)


def test_a_large_library_is_searched_by_inverted_lists(library, encoder):
    exact = [library.search(text, 10) for text in ("a dog", "two cats on grass", "a car at night")]
    reports = []
    plan = IndexPlan(lists=16)
    assert bring_up_to_date(
        library, encoder, plans=lambda n: plan if n > 2000 else EXACT, always=True, progress=reports.append
    )
    assert {"building the search index", "clustering vectors"} <= {report.stage for report in reports}
    index = library.info().indexes["tiny"]
    assert index["type"] == "IVF16,SQfp16" and index["vectors"] == COUNT and index["nprobe"] >= 1
    assert index["recall_at_10"] >= 0.99
    lines = dict(library.info().lines())
    assert "IVF16,SQfp16" in lines["index"] and f"probing {index['nprobe']} lists" in lines["index"]
    with Library.open(library.path) as again:
        for before, text in zip(exact, ("a dog", "two cats on grass", "a car at night"), strict=True):
            after = again.search(text, 10)
            assert (after.matched, after.confidence) == (before.matched, before.confidence)
            assert [hit.score for hit in after.hits] == [hit.score for hit in before.hits]
            assert [hit.id for hit in after.hits] == [hit.id for hit in before.hits]


def test_damaged_lists_are_repaired(library, encoder):
    plan = IndexPlan(lists=16)
    bring_up_to_date(library, encoder, plans=lambda _: plan, always=True)
    folder = library.layout.vectors("tiny")
    (lists,) = folder.glob("lists-*.bin")
    content = bytearray(lists.read_bytes())
    content[1000] ^= 4
    lists.write_bytes(content)
    assert any("checksum" in problem for problem in library.check().problems)
    lists.write_bytes(content[:-1])
    assert "repair" in " ".join(library.search("a dog").notes)
    report = library.check(repair=True)
    assert report.ok and report.repaired and library.check().ok
    assert Path(folder / "matcher.npz").exists()
