"""Shared fixtures: sample data, the command line in this process, a folder of scenes, small checkpoints."""

from __future__ import annotations

import os
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
def kandinsky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small Kandinsky 2.2 checkpoint with random weights."""
    from kandinsky_checkpoint import write_checkpoint

    folder = tmp_path_factory.mktemp("kandinsky") / "kandinsky-random"
    folder.mkdir()
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def real_models(tmp_path_factory: pytest.TempPathFactory) -> RealModels:
    """Return models of real architectures with random weights, and open_clip's embeddings for comparison."""
    return make_real_models(tmp_path_factory.mktemp("real-models"))
