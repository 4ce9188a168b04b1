"""Resolving paths to the ones under which the library recorded its folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipkit.catalog.filters import Filters, apply_filters
from clipkit.catalog.recorded_paths import recorded_paths
from clipkit.errors import BadQuery

from .samples import photo, put


@pytest.fixture
def tree(catalog, tmp_path: Path) -> Path:
    """`Photos/2023`, `Photos/2024` recorded through the symlink `Albums/Best`, and a symlink to everything."""
    root = tmp_path / "t"
    for folder in ("Photos/2023", "Photos/2024", "Photos/empty", "Albums"):
        (root / folder).mkdir(parents=True)
    (root / "Albums/Best").symlink_to("../Photos/2024")
    (tmp_path / "u").symlink_to("t")
    for name in ("Photos/2023/a.jpg", "Photos/2024/b.jpg"):
        (root / name).touch()
    put(catalog, photo(root / "Photos/2023/a.jpg", "aa"), photo(root / "Albums/Best/b.jpg", "bb"))
    catalog.add_roots([root], [])
    return tmp_path


def where_at_or_below(catalog, path: Path) -> set[str]:
    apply_filters(catalog, Filters(under=tuple(recorded_paths(catalog, path))))
    sql = "SELECT path FROM images WHERE id IN (SELECT id FROM temp.allowed)"
    return {Path(row[0]).name for row in catalog.db.execute(sql)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t", "ab"),
        ("t/Photos", "ab"),
        ("t/Photos/2023", "a"),
        ("t/Photos/2024", "b"),
        ("t/Albums", "b"),
        ("t/Albums/Best", "b"),
        ("u", "ab"),
        ("u/Photos/2023", "a"),
        ("u/Albums/../Photos/2024/", "b"),
        ("t/Albums/Best/../2023", "a"),
        ("u/Photos/2023/a.jpg", "a"),
        ("t/Photos/2024/b.jpg", "b"),
        ("t/Photos/empty", ""),
        ("u/Photos/empty", ""),
        (".", "ab"),
    ],
)
def test_a_folder_or_file_is_found_by_any_path(catalog, tree, monkeypatch, name, expected):
    assert where_at_or_below(catalog, tree / name) == {f"{stem}.jpg" for stem in expected}
    monkeypatch.chdir(tree)
    assert where_at_or_below(catalog, Path(name)) == {f"{stem}.jpg" for stem in expected}


def test_the_home_folder(catalog, tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.setenv("USERPROFILE", str(tree))
    assert where_at_or_below(catalog, Path("~/t/Photos/2023")) == {"a.jpg"}


def test_a_missing_folder_is_found_by_its_recorded_path(catalog, tree):
    (tree / "t").rename(tree / "away")
    assert where_at_or_below(catalog, tree / "t/Albums") == {"b.jpg"}
    with pytest.raises(BadQuery):
        recorded_paths(catalog, tree / "u/Photos")


@pytest.mark.parametrize("name", ["t/Photos/2042", "t/Pho", "elsewhere", "t/Photos/2023/b.jpg", "~nobody/x"])
def test_paths_that_the_library_does_not_have_are_an_error(catalog, tree, name):
    (tree / "elsewhere").mkdir()
    with pytest.raises(BadQuery) as error:
        recorded_paths(catalog, tree / name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_undecodable_names(catalog, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    put(catalog, photo(folder / "a.jpg", "aa"))
    (tmp_path / "link").symlink_to(folder)
    assert recorded_paths(catalog, tmp_path / "link") == [folder]


def test_more_paths_than_an_sqlite_expression_allows(catalog, tmp_path):
    folders = [tmp_path / f"{i}" for i in range(1500)]
    for folder in folders:
        folder.mkdir()
    put(catalog, *(photo(folder / "a.jpg", f"{i:04}") for i, folder in enumerate(folders)))
    apply_filters(catalog, Filters(under=tuple(folders)))
    assert catalog.db.execute("SELECT COUNT(*) FROM temp.allowed").fetchone()[0] == 1500
