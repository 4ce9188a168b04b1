"""Pixels, embeddings and latents of the pictures to train on, computed once and kept as memory-mapped arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clipkit.errors import ClipkitError
from clipkit.generation.codec import PatchCodec
from clipkit.generation.prior import Prior
from clipkit.progress import Progress, ProgressCallback
from clipkit.spaces.encoder import Encoder
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
    """The pictures' embeddings, not normalised, float16 (n, d)."""
    size = encoder.preprocessing.size
    squares = pixels(pictures, folder, size, progress)

    def make(start: int, end: int) -> np.ndarray:
        return encoder.encode_images(squares[start:end]).astype(np.float16)

    return Cache(folder, len(pictures)).rows("image-embeddings", make, progress)


def text_embeddings(
    pictures: CaptionedPictures, encoder: Encoder, folder: Path, progress: ProgressCallback | None = None
) -> np.ndarray:
    """The captions' embeddings, not normalised, float16 (n, d)."""

    def make(start: int, end: int) -> np.ndarray:
        return encoder.encode_texts([pictures.caption(i) for i in range(start, end)]).astype(np.float16)

    return Cache(folder, len(pictures)).rows("text-embeddings", make, progress)


def guesses(prior: Prior, text: np.ndarray, folder: Path, progress: ProgressCallback | None = None) -> np.ndarray:
    """The image embeddings that a prior gives for the text embeddings (n, d), float16 (n, d)."""

    def make(start: int, end: int) -> np.ndarray:
        return prior.predict(torch.from_numpy(text[start:end].astype(np.float32))).half().cpu().numpy()

    return Cache(folder, len(text)).rows("guessed-embeddings", make, progress)


def latents(
    pictures: CaptionedPictures,
    codec: PatchCodec,
    folder: Path,
    size: int,
    *,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> np.ndarray:
    """The pictures' latents, float16 (n, channels, size / 8, size / 8)."""
    squares = pixels(pictures, folder, size, progress)
    codec = codec.eval().to(device)

    @torch.inference_mode()
    def make(start: int, end: int) -> np.ndarray:
        x = as_input(squares[start:end]).to(device)
        return codec.encode(x, return_dict=False)[0].half().cpu().numpy()

    return Cache(folder, len(pictures)).rows("latents", make, progress)


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
