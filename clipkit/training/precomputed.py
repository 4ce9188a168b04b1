"""Images, embeddings and part labels of a data source, computed once and kept on disk as memory-mapped arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clipkit.errors import ClipkitError
from clipkit.generation.prior import Prior
from clipkit.models.encoder import Encoder
from clipkit.progress import Progress, ProgressCallback
from clipkit.training.data_sources import DataSource

CHUNK = 500


@dataclass(frozen=True)
class ArrayCache:
    """A folder of arrays of `count` rows each, filled front to back; an interrupted fill resumes at the last chunk."""

    folder: Path
    count: int

    def load_or_compute(
        self, name: str, compute: Callable[[int, int], np.ndarray], progress: ProgressCallback | None = None
    ) -> np.ndarray:
        """Return the array of that name, memory-mapped; `compute(start, end)` returns the rows not yet on disk.

        Raises ClipkitError if the array on disk has another number of rows.
        """
        path, marker = self.folder / f"{name}.npy", self.folder / f"{name}.json"
        done = json.loads(marker.read_text())["done"] if marker.exists() and path.exists() else 0
        array = np.load(path, mmap_mode="r+") if done else None
        if array is not None and len(array) != self.count:
            raise ClipkitError(f"{path} contains {len(array)} images, not {self.count}; use another --work folder")
        while done < self.count:
            end = min(done + CHUNK, self.count)
            rows = compute(done, end)
            if array is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                array = np.lib.format.open_memmap(path, "w+", rows.dtype, (self.count, *rows.shape[1:]))
            array[done:end] = rows
            array.flush()
            marker.write_text(json.dumps({"done": end}))
            done = end
            if progress:
                progress(Progress(f"preparing {name}", done, self.count))
        return np.load(path, mmap_mode="r")


def images(source: DataSource, folder: Path, size: int, progress: ProgressCallback | None = None) -> np.ndarray:
    """Return all images, uint8 (n, size, size, 3)."""

    def compute(start: int, end: int) -> np.ndarray:
        return np.stack([np.asarray(source.image(i, size)) for i in range(start, end)])

    return ArrayCache(folder, len(source)).load_or_compute(f"pixels-{size}", compute, progress)


def image_embeddings(
    source: DataSource, encoder: Encoder, folder: Path, progress: ProgressCallback | None = None
) -> np.ndarray:
    """Return the embeddings of the conditioning images, not normalised, float16 (n, d)."""
    size = encoder.preprocessing.size

    def compute(start: int, end: int) -> np.ndarray:
        batch = np.stack([np.asarray(source.conditioning_image(i, size)) for i in range(start, end)])
        return encoder.encode_images(batch).astype(np.float16)

    return ArrayCache(folder, len(source)).load_or_compute("image-embeddings", compute, progress)


def text_embeddings(
    source: DataSource,
    encoder: Encoder,
    folder: Path,
    progress: ProgressCallback | None = None,
    *,
    variants: int = 2,
) -> np.ndarray:
    """Return the embeddings of `variants` captions of each image, not normalised, float16 (n, variants, d)."""

    def compute(start: int, end: int) -> np.ndarray:
        captions = [source.caption(i, variant) for i in range(start, end) for variant in range(variants)]
        return encoder.encode_texts(captions).astype(np.float16).reshape(end - start, variants, -1)

    return ArrayCache(folder, len(source)).load_or_compute("text-embeddings", compute, progress)


def predicted_embeddings(
    prior: Prior, text: np.ndarray, folder: Path, progress: ProgressCallback | None = None
) -> np.ndarray:
    """Return the image embeddings that a prior predicts from text embeddings (n, variants, d); same shape, float16."""

    def compute(start: int, end: int) -> np.ndarray:
        rows = torch.from_numpy(text[start:end].astype(np.float32))
        return prior.predict(rows.flatten(0, 1)).view(rows.shape).half().cpu().numpy()

    return ArrayCache(folder, len(text)).load_or_compute("guessed-embeddings", compute, progress)


def parts(source: DataSource, folder: Path, progress: ProgressCallback | None = None) -> np.ndarray:
    """Return the part ids of each image, int16 (n, 3), padded with -1."""

    def compute(start: int, end: int) -> np.ndarray:
        rows = np.full((end - start, 3), -1, np.int16)
        for row, index in zip(rows, range(start, end), strict=True):
            shown = source.parts(index)
            row[: len(shown)] = shown
        return rows

    return ArrayCache(folder, len(source)).load_or_compute("parts", compute, progress)


def take_rows(array: np.ndarray, rows: torch.Tensor) -> np.ndarray:
    """Return `array[rows]`, reading a memory-mapped array in file order."""
    order = np.argsort(rows.numpy(), kind="stable")
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    out[order] = array[np.sort(rows.numpy())]
    return out
