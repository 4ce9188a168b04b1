"""Reading files ahead of a search, in large blocks, where the page cache does not hold them.

A search in a memory-mapped file faults its pages in one by one, which takes many times as long on a cold disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BLOCK = 1 << 20
THREADS = 8
"""Reads in flight. Solid-state disks and network disks are fast only with several."""
SAMPLES = 48
MOST_MISSING = 0.15
"""Share of the samples that a file in the page cache may lack."""


def preread(path: Path, starts: np.ndarray, lengths: np.ndarray) -> bool:
    """Read ranges of a file into the page cache, unless they seem to be there; return whether they were read.

    starts, lengths: int64 (n,), in bytes.
    """
    order = np.argsort(starts)
    starts, lengths = starts[order], lengths[order]
    with contextlib.suppress(OSError):  # the file may have been replaced since; its mapping is still valid
        if not is_cached(path, _samples(starts, lengths)):
            with ThreadPoolExecutor(THREADS, thread_name_prefix="clipkit-preread") as pool:
                list(pool.map(lambda block: _read(path, *block), _blocks(starts, lengths)))
            return True
    return False


def preread_all(path: Path) -> bool:
    """Read a whole file into the page cache, unless it seems to be there; return whether it was read."""
    with contextlib.suppress(OSError):
        return preread(path, np.zeros(1, np.int64), np.array([path.stat().st_size]))
    return False


def is_cached(path: Path, offsets: Sequence[int]) -> bool:
    """Return whether the page cache holds a file at nearly all of these offsets; False where the system cannot tell.

    The first question about a missing page makes Linux read what follows it, so offsets should lie far apart.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    missing = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for offset in offsets:
            try:
                missing += os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) != 1
            except BlockingIOError:
                missing += 1
    except OSError:  # the file system does not support the flag
        return False
    finally:
        os.close(descriptor)
    return missing <= MOST_MISSING * len(offsets)


def _samples(starts: np.ndarray, lengths: np.ndarray) -> list[int]:
    """Return offsets that are spread evenly over the ranges."""
    ends = np.cumsum(lengths)
    if not len(ends) or not ends[-1]:
        return []
    places = np.arange(SAMPLES) * ends[-1] // SAMPLES
    ranges = np.searchsorted(ends, places, side="right")
    return (starts[ranges] + places - (ends - lengths)[ranges]).tolist()


def _blocks(starts: np.ndarray, lengths: np.ndarray) -> Iterable[tuple[int, int]]:
    """Yield offset and length of blocks that cover the ranges; adjacent ranges are joined."""
    first = np.flatnonzero(np.concatenate([[True], starts[1:] > (starts + lengths)[:-1]]))
    last = np.concatenate([first[1:] - 1, [len(starts) - 1]])
    for start, end in zip(starts[first].tolist(), (starts + lengths)[last].tolist(), strict=True):
        for offset in range(start, end, BLOCK):
            yield offset, min(BLOCK, end - offset)


def _read(path: Path, offset: int, length: int) -> None:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        file.read(length)
