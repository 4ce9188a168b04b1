"""Pixels, embeddings and parts of the pictures to train on, computed once and kept as memory-mapped arrays."""

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
from clipkit.training.pictures import CaptionedPictures

CHUNK = 500


@dataclass(frozen=True)
class Cache:
    """A folder of arrays, a row a picture, that are filled front to back and can be filled on after a kill."""

    folder: Path
    count: int

    def rows(self, name: str, make: Callable[[int, int], np.ndarray], progress: ProgressCallback | None) -> np.ndarray:
        """The array of that name, memory-mapped; `make(start, end)` gives the rows that are not there yet."""
        path, marker = self.folder / f"{name}.npy", self.folder / f"{name}.json"
        done = json.loads(marker.read_text())["done"] if marker.exists() and path.exists() else 0
        array = np.load(path, mmap_mode="r+") if done else None
        if array is not None and len(array) != self.count:
            raise ClipkitError(f"{path} holds {len(array)} pictures, not {self.count}: use another --work folder")
        while done < self.count:
            end = min(done + CHUNK, self.count)
            rows = make(done, end)
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


def pixels(
    pictures: CaptionedPictures, folder: Path, size: int, progress: ProgressCallback | None = None
) -> np.ndarray:
    """All pictures, uint8 (n, size, size, 3)."""

    def make(start: int, end: int) -> np.ndarray:
        return np.stack([np.asarray(pictures.picture(i, size)) for i in range(start, end)])

    return Cache(folder, len(pictures)).rows(f"pixels-{size}", make, progress)


def image_embeddings(
    pictures: CaptionedPictures, encoder: Encoder, folder: Path, progress: ProgressCallback | None = None
) -> np.ndarray:
    """The embeddings of what CLIP sees of the pictures, not normalised, float16 (n, d)."""
    size = encoder.preprocessing.size

    def make(start: int, end: int) -> np.ndarray:
        squares = np.stack([np.asarray(pictures.example(i, size)) for i in range(start, end)])
        return encoder.encode_images(squares).astype(np.float16)

    return Cache(folder, len(pictures)).rows("image-embeddings", make, progress)


def text_embeddings(
    pictures: CaptionedPictures,
    encoder: Encoder,
    folder: Path,
    progress: ProgressCallback | None = None,
    *,
    variants: int = 2,
) -> np.ndarray:
    """The embeddings of `variants` captions of each picture, not normalised, float16 (n, variants, d)."""

    def make(start: int, end: int) -> np.ndarray:
        captions = [pictures.caption(i, variant) for i in range(start, end) for variant in range(variants)]
        return encoder.encode_texts(captions).astype(np.float16).reshape(end - start, variants, -1)

    return Cache(folder, len(pictures)).rows("text-embeddings", make, progress)


def guesses(prior: Prior, text: np.ndarray, folder: Path, progress: ProgressCallback | None = None) -> np.ndarray:
    """The image embeddings that a prior gives for text embeddings (n, variants, d), float16 of the same shape."""

    def make(start: int, end: int) -> np.ndarray:
        rows = torch.from_numpy(text[start:end].astype(np.float32))
        return prior.predict(rows.flatten(0, 1)).view(rows.shape).half().cpu().numpy()

    return Cache(folder, len(text)).rows("guessed-embeddings", make, progress)


def parts(pictures: CaptionedPictures, folder: Path, progress: ProgressCallback | None = None) -> np.ndarray:
    """The parts of each picture, int16 (n, 3), filled up with -1."""

    def make(start: int, end: int) -> np.ndarray:
        rows = np.full((end - start, 3), -1, np.int16)
        for row, index in zip(rows, range(start, end), strict=True):
            shown = pictures.parts(index)
            row[: len(shown)] = shown
        return rows

    return Cache(folder, len(pictures)).rows("parts", make, progress)


def redrawn(
    squares: np.ndarray, redraw: Callable[[np.ndarray, np.ndarray], np.ndarray], embeddings: np.ndarray, folder: Path
) -> np.ndarray:
    """Pictures, uint8 (n, s, s, 3), as a decoder makes them again: what `redraw` gives for rows and embeddings."""
    return Cache(folder, len(squares)).rows("redrawn", lambda i, j: redraw(squares[i:j], embeddings[i:j]), None)


def as_input(squares: np.ndarray) -> torch.Tensor:
    """uint8 (n, size, size, 3) to float32 (n, 3, size, size) in [-1, 1], channels last."""
    x = torch.from_numpy(np.ascontiguousarray(squares)).permute(0, 3, 1, 2)
    return x.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def draw(array: np.ndarray, rows: torch.Tensor) -> np.ndarray:
    """Rows of a memory-mapped array, read in the order of the file."""
    order = np.argsort(rows.numpy(), kind="stable")
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    out[order] = array[np.sort(rows.numpy())]
    return out
