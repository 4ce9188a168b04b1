"""Atomic file writes: a file is complete or absent, even after a crash or power failure."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = ".clipkit-new"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` when the block ends, and is deleted if the block raises.

    It is written to the same folder, which must exist, synced to disk and renamed: readers see the old file or the new
    one. Raises OSError.
    """
    unfinished = path.with_name(f".{os.urandom(8).hex()}{_UNFINISHED}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # Windows cannot sync folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def clear_unfinished(folder: Path, older_than_s: float = 3600) -> None:
    """Delete the unfinished files that killed processes left in a folder; younger ones may still be in use."""
    for left in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > older_than_s:
                left.unlink()
