"""Writing the files of a store: complete and on the disk before a manifest lists them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing, and sync it to the disk when the block ends. Raises OSError if the disk is full."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array in NumPy's format and sync it to the disk."""
    with synced(path) as file:
        np.save(file, array)


def mapped_array(path: Path, count: int) -> np.ndarray:
    """Memory-map an int64 array of a known length. Raises ValueError if the file holds anything else, or OSError."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if (array.shape, array.dtype) != ((count,), np.int64):
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}")
    return array
