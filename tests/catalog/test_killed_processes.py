"""A writer killed between commits leaves complete batches and an intact catalog."""

from __future__ import annotations

import random
import signal
import sqlite3
import time

import pytest

from clipkit.catalog.catalog import Catalog

from .samples import DIMENSION, SPACE, start

if not hasattr(signal, "SIGKILL"):
    pytest.skip("there is no SIGKILL here", allow_module_level=True)

BATCH = 20
WRITER = """
from pathlib import Path
from clipkit.catalog.catalog import Catalog
from catalog.samples import SPACE, embeddings, failure, photo
with Catalog.open(Path(sys.argv[1])) as catalog, catalog.writing():
    first = catalog.db.execute("SELECT COUNT(*) FROM images").fetchone()[0] // 20
    for batch in range(first, 100_000):
        names = [f"b{batch:06}-{i:02}" for i in range(20)]
        catalog.commit_batch(
            [photo(f"/p/{name}", name) for name in names],
            space=SPACE,
            embeddings=embeddings(*names),
            failures=[failure(f"/f/{name}") for name in names],
        )
        print(batch, flush=True)
"""


def test_only_complete_batches_remain(tmp_path):
    path = tmp_path / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.add_space(SPACE, DIMENSION)
    rng = random.Random(20)
    for _ in range(6):
        writer = start(WRITER, path)
        assert writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        writer.kill()
        told = [int(line) for line in writer.communicate()[0].split("\n")[:-1]]
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        for table, column in (("images", "hash"), ("embeddings", "hash"), ("failures", "substr(path, 4)")):
            names = {row[0] for row in connection.execute(f"SELECT {column} FROM {table}")}
            batches = {name[:7] for name in names}
            assert names == {f"{batch}-{i:02}" for batch in batches for i in range(BATCH)}
            assert len(batches) > max(told, default=0)
        connection.close()
        with Catalog.open(path) as catalog:
            assert catalog.spaces()[SPACE] == (DIMENSION, 0)
            assert len(catalog.searchable_ids(SPACE)) == len(names)
