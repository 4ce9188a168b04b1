"""Thumbnails as WebP: made in child processes, cached on disk, the cache bounded in size."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clipkit.errors import UnreadableImage
from clipkit.images.decode_pool import DecodePool
from clipkit.images.renditions import Thumbnail

SIZES = (160, 320, 640, 1280, 2560)
"""Longer sides in pixels."""

_TOUCH_S = 3600
"""A file that is read is marked as used at most this often."""
_FILL = 0.9
"""Clearing the cache leaves this share of its size."""


class Thumbnails:
    """A cache of thumbnails by content: a moved file keeps its thumbnails, and libraries share them.

    Files that were not used for longest are deleted once the folder exceeds `most_bytes`.
    """

    def __init__(self, folder: Path, pool: DecodePool, most_bytes: int) -> None:
        self.folder, self.pool, self._most_bytes = folder, pool, most_bytes
        self._bytes: int | None = None
        self._lock = threading.Lock()
        self._making: dict[Path, threading.Lock] = {}

    def get(self, path: Path, content_hash: str, size: int, xmp: Callable[[], bytes] = bytes) -> bytes:
        """Return the thumbnail of a file as WebP; `xmp` returns the packet to put into a new one, or nothing.

        Raises UnreadableImage.
        """
        place = self.folder / content_hash[:2] / f"{content_hash}-{size}.webp"
        if (data := _read(place)) is not None:
            return data
        with self._one_at_a_time(place):
            if (data := _read(place)) is not None:  # another request made it meanwhile
                return data
            made = self.pool.run(path, Thumbnail(size, xmp()))
            if isinstance(made, UnreadableImage):
                raise made
            self._keep(place, made)
            return made

    @contextmanager
    def _one_at_a_time(self, place: Path) -> Iterator[None]:
        with self._lock:
            lock = self._making.setdefault(place, threading.Lock())
        with lock:
            yield
        with self._lock:
            self._making.pop(place, None)

    def _keep(self, place: Path, data: bytes) -> None:
        """Write a thumbnail into the cache; a full or read-only disk only means that it is made again."""
        unfinished = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}.new")
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not synced to disk as other files are: after a power failure it is made again.
            unfinished.write_bytes(data)
            os.replace(unfinished, place)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            return
        with self._lock:
            known = self._bytes
            self._bytes = None if known is None else known + len(data)
            too_many = self._bytes is None or self._bytes > self._most_bytes
        if too_many:
            self._clear()

    def _clear(self) -> None:
        """Measure the cache, and delete the files not used for longest if it is too large."""
        with self._lock:
            files = sorted(_files(self.folder))
            total = sum(size for _, size, _ in files)
            if total > self._most_bytes:
                for _, size, file in files:
                    if total <= _FILL * self._most_bytes:
                        break
                    with contextlib.suppress(OSError):
                        file.unlink()
                        total -= size
            self._bytes = total


def _read(place: Path) -> bytes | None:
    try:
        data = place.read_bytes()
        if time.time() - place.stat().st_mtime > _TOUCH_S:
            os.utime(place)
    except OSError:
        return None
    # A power failure may leave an empty or shorter file: the length stands in its head.
    whole = len(data) >= 12 and int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return data if whole else None


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield (time of use, size, path) of the files in the cache."""
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory) / name
            with contextlib.suppress(OSError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path
