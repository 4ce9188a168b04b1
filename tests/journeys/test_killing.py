"""A run that is killed repeatedly ends with the same library as an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from clipkit import Library
from clipkit.samples.photos import write_samples

KILLS = 22
BATCH = 8


@pytest.mark.skipif(sys.platform == "win32", reason="forks processes, to restart within milliseconds")
def test_sigkill_at_random_moments_does_not_change_the_final_library(tmp_path: Path):
    photos = tmp_path / "photos"
    write_samples(photos, 500, size=64)
    undisturbed, killed, log = tmp_path / "undisturbed", tmp_path / "killed", tmp_path / "encoded.log"
    rng = random.Random(20)
    kills = 0
    # A fresh process: one in which torch has started threads must not be forked.
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forker:

        def run(library: Path, log: Path, after: float | None) -> int:
            assert forker.stdin and forker.stdout
            forker.stdin.write(json.dumps([str(library), str(photos), str(log), after]) + "\n")
            forker.stdin.flush()
            return int(forker.stdout.readline())

        assert run(undisturbed, tmp_path / "other.log", None) == 0
        while kills < KILLS:
            if run(killed, log, rng.uniform(0.3, 2.0)) == 0:
                # It finished before the kill: start over with a new library.
                os.rename(killed, tmp_path / f"finished-{kills}")
                log.unlink()
                continue
            kills += 1
        assert run(killed, log, None) == 0
        forker.stdin.close()

    assert _rows(killed) == _rows(undisturbed)
    times = Counter(log.read_text().split())
    assert len(times) == 500
    assert sum(times.values()) - 500 <= KILLS * BATCH, "more was embedded twice than the batches in flight"
    with Library.open(undisturbed) as expected, Library.open(killed) as actual:
        assert actual.check().ok
        for text in ("a cat on the beach", "a robot", "at night", "a car and a dog", "a whale in the desert"):
            results = [[(h.path, h.score, h.matched) for h in lib.search(text, k=20)] for lib in (expected, actual)]
            assert results[0] == results[1]


def _run(library: Path, photos: Path, log: Path, after: float | None) -> int:
    """Index in a forked process, killed `after` seconds; return 0 if it finished."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _index(library, photos, log)
            code = 0
        finally:
            os._exit(code)
    if after is not None:
        deadline = time.monotonic() + after
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _index(library: Path, photos: Path, log: Path) -> None:
    from clipkit.indexing import pipeline

    encode = pipeline.encode

    def logged(batch, *arguments):
        embeddings = encode(batch, *arguments)
        with log.open("a") as file:
            file.write("".join(f"{embedding.hash}\n" for embedding in embeddings))
        return embeddings

    pipeline.encode = logged
    with Library.open_or_create(library, model="tiny") as lib:
        lib.index([photos], batch_size=BATCH, workers=2)


def _rows(library: Path) -> list[tuple]:
    with sqlite3.connect(library / "catalog.db") as db:
        return db.execute(
            "SELECT path, size, mtime_ns, images.hash, width, height, format, taken_at, camera, latitude, longitude,"
            " embeddings.id, space, vector, norm FROM images JOIN embeddings USING (hash) ORDER BY path"
        ).fetchall()


if __name__ == "__main__":
    import open_clip  # noqa: F401  slow imports, before the forks

    from clipkit.models import checkpoint  # noqa: F401

    for line in sys.stdin:
        where, pictures, encoded, seconds = json.loads(line)
        print(_run(Path(where), Path(pictures), Path(encoded), seconds), flush=True)
