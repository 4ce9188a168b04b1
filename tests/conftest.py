"""Shared fixtures: sample data, the command line in this process, scenes and a library of them, small checkpoints.

Workers of pytest-xdist take whole files, and take the longest first: one that starts last would run alone in the end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_models import RealModels, make_real_models

from clipkit.cli.main import main

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    # Read when torch is imported. More threads than cores make it many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
os.environ["HF_HUB_OFFLINE"] = "1"  # read on import; no test may wait for a network

SHARED = Path(__file__).parents[2] / "shared"
LONGEST = (
    "models/test_onnx.py",
    "journeys/test_training.py",
    "models/test_importing.py",
    "journeys/test_generating.py",
    "journeys/test_documents.py",
    "journeys/test_killing.py",
    "journeys/test_index_and_search.py",
    "journeys/test_nothing_leaves_the_machine.py",
    "generation/operations/test_operations.py",
    "generation/operations/test_edits.py",
    "server/page/test_searching.py",
    "server/page/test_accessibility.py",
    "server/page/test_missing.py",
    "server/test_jobs.py",
    "journeys/test_benchmark.py",
    "matching/test_on_real_vectors.py",
    "journeys/test_models_of_a_library.py",
    "journeys/test_roots.py",
    "journeys/test_routes.py",
)
"""Files that take longest, in the order in which they start."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave the order of the others, and of the tests in each file, as it is."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture
def shared() -> Path:
    """Return the folder of real files for evaluation; skip the test if it does not exist."""
    if not (SHARED / "photos").is_dir():
        pytest.skip("the shared sample pictures are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep libraries and caches of all tests and fixtures out of the user's home folder."""
    home = tmp_path_factory.getbasetemp() / "home"
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME"):
            patch.setenv(variable, str(home / variable))
        for variable in ("CLIPKIT_INDEXES", "CLIPKIT_MODELS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT"):
            patch.delenv(variable, raising=False)
        # Tests run side by side already, and a decoding process takes longer to start than to read their few pictures.
        patch.setattr("clipkit.indexing.run.default_workers", lambda: 1)
        yield


@dataclass(frozen=True)
class Output:
    """The output of a command and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def clipkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Output]:
    """Return a function that runs the command line in this process: `clipkit("search", "a dog")`.

    Libraries are in the test's own folder.
    """
    monkeypatch.setenv("CLIPKIT_INDEXES", str(tmp_path / "indexes"))

    def run(*arguments: str | os.PathLike[str]) -> Output:
        capfdbinary.readouterr()
        code = main([os.fspath(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Output(code, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape"))

    return run


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 120 sample scenes as small JPEG files; tests must not change it."""
    from clipkit.samples.photos import write_samples

    folder = tmp_path_factory.mktemp("scenes")
    write_samples(folder, 120, size=96)
    return folder


@pytest.fixture(scope="session")
def indexed_scenes(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Path:
    """A folder of libraries with `default`: `scene_folder`, indexed with `tiny`; tests must not change it."""
    from clipkit import Library

    folder = tmp_path_factory.mktemp("indexed") / "indexes"
    with Library.create(folder / "default", "tiny") as library:
        library.index([scene_folder])
    return folder


@pytest.fixture
def scene_library(indexed_scenes: Path, tmp_path: Path) -> Path:
    """The test's own copy of the library of scenes, which `clipkit` uses if nothing else is named."""
    shutil.copytree(indexed_scenes, tmp_path / "indexes")
    return tmp_path / "indexes" / "default"


@pytest.fixture(scope="session")
def kandinsky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small Kandinsky 2.2 checkpoint with random weights."""
    from kandinsky_checkpoint import write_checkpoint

    folder = tmp_path_factory.mktemp("kandinsky") / "kandinsky-random"
    folder.mkdir()
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def real_models(tmp_path_factory: pytest.TempPathFactory) -> RealModels:
    """Return models of real architectures with random weights, and open_clip's embeddings for comparison.

    Workers share one folder, as it takes long to fill; tests must not change it.
    """
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "real-models"
    with FileLock(f"{folder}.lock"):
        return make_real_models(folder)
