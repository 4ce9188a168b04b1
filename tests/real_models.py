"""Models of the real architectures with random weights in the hub's cache, made once a session by open_clip alone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from clipkit.samples.painting import paint
from clipkit.samples.world import scenes

SIZES = ((300, 200), (200, 320), (256, 256))


@dataclass(frozen=True)
class RealModels:
    """`home` is what $HF_HOME is set to, `configs` the small configurations, `vectors` open_clip's own results."""

    home: Path
    pictures: tuple[Path, ...]
    vectors: dict[str, np.ndarray]

    @property
    def hub(self) -> Path:
        return self.home / "hub"

    @property
    def configs(self) -> Path:
        return self.home / "configs"

    def weights(self, repository: str) -> Path:
        """The file of a repository's weights."""
        folder = self.hub / ("models--" + repository.replace("/", "--"))
        return next(folder.glob("snapshots/*/*.safetensors")).resolve()


def make_real_models(folder: Path) -> RealModels:
    """Fill a folder, or read what another process has filled it with.

    Takes seconds; open_clip runs in a process of its own, which knows nothing of clipkit.
    """
    home, pictures = folder / "home", []
    if (home / "vectors.npz").exists():
        return read_real_models(folder)
    home.mkdir(parents=True)
    for i, (scene, size) in enumerate(zip(islice(scenes(8), len(SIZES)), SIZES, strict=True)):
        picture = paint(scene, 320).resize(size)
        pictures.append(folder / f"{i}.{'png' if i == 1 else 'jpg'}")
        picture.save(pictures[-1])
    program = Path(__file__).parent / "models" / "open_clip_reference.py"
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, program, home, *pictures], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return read_real_models(folder)


def read_real_models(folder: Path) -> RealModels:
    """Return what `make_real_models` has written."""
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    with np.load(folder / "home" / "vectors.npz") as vectors:
        return RealModels(folder / "home", tuple(pictures), dict(vectors))
