"""scripts/benchmark.py: what of it runs without another program to compare with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_growth_prepares_measures_and_writes_the_page(tmp_path: Path):
    folders = [f"--{name}={tmp_path / name}" for name in ("work", "out", "docs")]
    command = [sys.executable, SCRIPTS / "benchmark.py", "growth", "--quick", "--model", "tiny", *folders]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    run = json.loads(next((tmp_path / "out").glob("growth-*.json")).read_text("utf-8"))
    assert [size["count"] for size in run["sizes"]] == [100, 1000]
    for size in run["sizes"]:
        assert size["text_recall"] >= 0.99 and size["picture_recall"] >= 0.99  # so small a library is searched exactly
        assert min(size["record_us"], size["cold_s"], size["cold_peak_mb"], size["vectors_bytes"]) > 0
    page = (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")
    assert "figures of a quick run" in page and "| 1,000 |" in page
    for name in ("latency", "memory") if find_spec("matplotlib") else ():  # it comes with clipkit[dev]
        assert f"(benchmarks/{name}.png)" in page
        assert Image.open(tmp_path / "docs" / "benchmarks" / f"{name}.png").width > 300


def test_vectors_are_clustered_anisotropic_and_apart_from_the_texts():
    from benchmark_vectors import image_vectors

    texts = np.random.default_rng(0).standard_normal((500, 64)) + 1.5 * np.random.default_rng(1).standard_normal(64)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    few, many = (np.concatenate(list(image_vectors(texts, count))) for count in (300, 12_000))
    assert np.array_equal(few, many[:300]) and many.shape == (12_000, 64)
    assert np.allclose(np.linalg.norm(many, axis=1), 1, atol=1e-5)
    mean = many.mean(0)
    assert 0.3 < mean @ mean < 0.7  # the mean cosine of two pictures
    assert (many @ texts.mean(0)).mean() < 0.5 * mean @ mean  # the gap
    spectrum = np.linalg.svd(many - mean, compute_uv=False) ** 2
    assert spectrum[:8].sum() > 2 * spectrum.sum() * 8 / 64
    others = next(image_vectors(texts, 300, first_chunk=1000))
    assert np.abs(others - few).max() > 0.1 and others.mean(0) @ mean > 0.95 * mean @ mean  # the same world


def test_recall_counts_what_an_exhaustive_search_finds():
    from benchmark_vectors import exact_top, image_vectors

    texts = np.eye(40, dtype=np.float32)
    vectors = np.concatenate(list(image_vectors(texts, 10_500)))
    wanted = vectors[[3, 10_400]]
    found = exact_top(image_vectors(texts, 10_500), wanted, 5)
    assert found[:, 0].tolist() == [3, 10_400]
    scores = wanted @ vectors.astype(np.float16).astype(np.float32).T
    assert np.allclose(np.take_along_axis(scores, found, 1), -np.sort(-scores, 1)[:, :5])


def test_photos_have_as_many_bits_as_photographs(tmp_path: Path):
    from benchmark_pictures import write_photos

    write_photos(tmp_path, 2, 900, 600, seed=0)
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() != second.read_bytes() and Image.open(first).size == (900, 600)
    assert 1 < 8 * first.stat().st_size / (900 * 600) < 6
    before = first.stat().st_mtime_ns
    write_photos(tmp_path, 2, 900, 600, seed=0)
    assert first.stat().st_mtime_ns == before


def test_a_command_is_measured_with_its_children():
    from benchmark_process import run_process

    child = "b = bytearray(60_000_000); import time; time.sleep(1.2)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('done')"
    measured = run_process([sys.executable, "-c", code])
    assert measured.out == "done\n" and measured.seconds > 1 and measured.peak_mb > 60


def test_unknown_rows_are_named():
    from benchmark_rows import ROWS, chosen

    assert chosen("") == ROWS and [row.name for row in chosen("few-new, cold-22")] == ["cold-22", "few-new"]
    with pytest.raises(ValueError, match="no row cold-23: choose from cold-22"):
        chosen("cold-23")


def test_the_page_has_the_newest_figures_of_each_row(tmp_path: Path):
    from benchmark_report import newest_rows

    def write(day: int, quick: bool = False, **seconds: float) -> None:
        rows = [{"name": name.replace("_", "-"), "seconds": value} for name, value in seconds.items()]
        path = tmp_path / f"peers-2026010{day}-000000.json"
        path.write_text(json.dumps({"quick": quick, "day": day, "rows": rows}), "utf-8")

    assert newest_rows(tmp_path) is None
    write(1, few_new=9, cold_22=1)
    write(2, quick=True, cold_22=7)
    write(3, cold_22=2)
    run = newest_rows(tmp_path)
    assert run is not None and run["day"] == 3
    assert [(row["name"], row["seconds"]) for row in run["rows"]] == [("cold-22", 2), ("few-new", 9)]
