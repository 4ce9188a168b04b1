"""Catalogs with one space, copied from one that is created once, because creating the schema is slow."""

from __future__ import annotations

import shutil

import pytest
from catalog.samples import DIMENSION, SPACE

from clipkit.catalog.catalog import Catalog


@pytest.fixture(scope="session")
def new_catalog(tmp_path_factory):
    path = tmp_path_factory.mktemp("new") / "catalog.db"
    with Catalog.open(path, create=True) as opened:
        opened.add_space(SPACE, DIMENSION)
    return path


@pytest.fixture
def catalog(tmp_path, new_catalog):
    path = tmp_path / "library" / "catalog.db"
    path.parent.mkdir()
    shutil.copy(new_catalog, path)
    with Catalog.open(path) as opened:
        yield opened
