"""Recognising the files of a library that have not changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.known_files import KnownFiles
from clipkit.catalog.rows import Embedding, Failure, NewImage


@pytest.fixture
def catalog(tmp_path):
    with Catalog.open(tmp_path / "catalog.db", create=True) as catalog:
        catalog.add_space("m", 2)
        catalog.add_space("other", 2)
        yield catalog


def add(catalog: Catalog, *names: str, embed: bool = True) -> list[tuple[str, int, int]]:
    """Record files of 10 bytes, changed at 5; return them as a scan finds them."""
    images = [NewImage(Path(name), 10, 5, f"hash of {name!a}") for name in names]
    vectors = [Embedding(image.hash, np.ones(2, np.float32)) for image in images] if embed else []
    catalog.commit_batch(images, space="m", embeddings=vectors)
    return [(name, 10, 5) for name in names]


def recognised(catalog: Catalog, files, folder: str = "/p", space: str = "m") -> list[bool]:
    return KnownFiles(catalog, space, [Path(folder)]).recognise(files).tolist()


def test_a_file_is_recognised_until_its_path_size_or_time_changes(catalog):
    files = add(catalog, "/p/a.jpg", "/p/b/c.jpg")
    assert recognised(catalog, files) == [True, True]
    assert recognised(catalog, [("/p/new.jpg", 10, 5), ("/p/a.jpg", 11, 5), ("/p/a.jpg", 10, 6)]) == 3 * [False]


def test_only_what_the_space_has_embedded_is_recognised(catalog):
    files = add(catalog, "/p/a.jpg")
    assert recognised(catalog, files, space="other") == [False]
    assert recognised(catalog, add(catalog, "/p/b.jpg", embed=False)) == [False]


def test_one_folder_and_the_whole_library_recognise_the_same(catalog):
    catalog.add_roots([Path("/p"), Path("/q")], [])
    files = [*add(catalog, "/p/a.jpg", "/p/b/c.jpg"), *add(catalog, "/p/b/new.jpg", embed=False)]
    files += add(catalog, "/q/a.jpg")
    whole = KnownFiles(catalog, "m", [Path("/p"), Path("/q")])
    assert whole.recognise(files).tolist() == [True, True, False, True]
    assert recognised(catalog, files) == [True, True, False, False]
    assert recognised(catalog, files, "/p/b") == [False, True, False, False]
    assert recognised(catalog, files, "/p/b", space="other") == 4 * [False]


def test_files_that_failed_and_files_elsewhere_are_not(catalog):
    inside, outside = add(catalog, "/p/a.jpg", "/pq/a.jpg")
    assert recognised(catalog, [inside, outside]) == [True, False]
    catalog.commit_batch(missed=[Failure(Path("/p/a.jpg"), 10, 5, "unreadable", "permission denied", "access")])
    assert recognised(catalog, [inside]) == [False]


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_names_that_are_not_text(catalog):
    assert recognised(catalog, add(catalog, os.fsdecode(b"/p/\xff.jpg"))) == [True]


def test_an_empty_library_recognises_nothing(catalog):
    assert recognised(catalog, [("/p/a.jpg", 1, 1)]) == [False]
    assert not len(KnownFiles(catalog, "m", [Path("/p")]).recognised())


@pytest.fixture(scope="module")
def lasting_catalog(tmp_path_factory):
    with Catalog.open(tmp_path_factory.mktemp("catalog") / "catalog.db", create=True) as catalog:
        catalog.add_space("m", 2)
        yield catalog


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_what_was_not_recognised_vanishes(lasting_catalog, named, unchanged):
    catalog = lasting_catalog
    files = add(catalog, *(f"/p/{number}.jpg" for number in range(31)))  # those that the last example removed are back
    known = KnownFiles(catalog, "m", [Path("/p"), Path("/p")])
    catalog.begin_scan()
    known.recognise([files[number] for number in unchanged])
    catalog.mark_recognised(known.recognised())
    catalog.mark_seen([Path(files[number][0]) for number in named])
    catalog.remove_vanished([Path("/p")])
    assert {int(path.stem) for path in catalog.states([Path(name) for name, *_ in files])} == named | unchanged
