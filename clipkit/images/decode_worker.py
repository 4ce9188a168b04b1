"""The child process that decodes files for `DecodePool`, and the messages between the two.

Run as `python -m clipkit.images.decode_worker`, it reads requests from stdin and answers on stdout. A message is a
pickle preceded by its length, a little-endian 64-bit integer.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
from PIL import Image

from clipkit.errors import UnreadableImage
from clipkit.images.decoding import open_picture
from clipkit.images.failure_causes import ACCESS, RESOURCES, failure_cause
from clipkit.images.file_access import describe_os_error, modified_ns
from clipkit.images.limits import Limits
from clipkit.images.metadata_record import Metadata
from clipkit.images.preprocessing import Preprocessing

Examine = Callable[[Path, Image.Image], Any]
"""Inspects a file and its upright, possibly reduced pixels while both are at hand. Must be a module-level function."""

R_co = TypeVar("R_co", covariant=True)


class Task(Protocol[R_co]):
    """What else a child can do with a file than to preprocess it; an instance of a module-level class."""

    def __call__(self, path: Path, limits: Limits) -> R_co:
        """Return something that can be pickled. Raises `UnreadableImage`."""
        ...


@dataclass
class Done:
    """What a task returned."""

    value: Any


_LENGTH = struct.Struct("<Q")
# Decode at no less than this many times the model's input side, and resize carefully only from there.
_OVERSAMPLING = 2


@dataclass
class Decoded:
    """A picture preprocessed for a model.

    `pixels`: uint8 (size, size, 3), RGB.
    `width`, `height`: of the full upright picture.
    `size`, `mtime_ns`: of the file before it was decoded, in bytes and as `modified_ns` returns it.
    `remark`: what the pool's `examine` returned.
    """

    pixels: np.ndarray
    width: int
    height: int
    format: str
    metadata: Metadata
    size: int
    mtime_ns: int
    remark: Any = None


def decode_file(path: Path, preprocessing: Preprocessing, limits: Limits, examine: Examine | None = None) -> Decoded:
    """Decode one file in this process. Raises `UnreadableImage`, also if the file changes while it is read."""
    try:
        before = os.stat(path)
        picture = open_picture(path, shortest_side=_OVERSAMPLING * preprocessing.size, limits=limits)
        pixels = preprocessing.pixels(picture.image, picture.whole)
        remark = examine(path, picture.image) if examine else None
        after = os.stat(path)
    except OSError as error:
        raise UnreadableImage(path, *describe_os_error(error)) from error
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise UnreadableImage(path, "unreadable", "it changed while it was read", ACCESS)
    return Decoded(
        pixels=pixels,
        width=picture.width,
        height=picture.height,
        format=picture.format,
        metadata=picture.metadata,
        size=before.st_size,
        mtime_ns=modified_ns(before),
        remark=remark,
    )


def write_message(pipe: BinaryIO, message: bytes) -> None:
    """Write a pickle, preceded by its length."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def read_message(pipe: BinaryIO) -> Any:
    """Return the next message, unpickled; None at the end of the pipe or if the message is cut off."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message = pipe.read(length)
    return pickle.loads(message) if len(message) == length else None


def serve() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    # Point stdin and stdout at the null device, so that libraries that print or read cannot corrupt the messages.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    preprocessing, limits, examine = read_message(requests) or sys.exit(0)
    write_message(answers, pickle.dumps("ready"))
    os.dup2(null, 2)  # discard what libtiff and LibRaw print
    incoming: queue.SimpleQueue[tuple[Path, Task[Any] | None]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, incoming), daemon=True).start()
    while True:
        path, task = incoming.get()
        answer: object
        try:
            answer = Done(task(path, limits)) if task else decode_file(path, preprocessing, limits, examine)
        except UnreadableImage as error:
            answer = (error.kind, error.reason, failure_cause(error, limits.pixels))
        except MemoryError:
            answer = ("too-large", "out of memory while decoding", RESOURCES)
        except Exception as error:  # a bug in clipkit should cost one file, not the run
            answer = ("unreadable", f"decoding failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
        write_message(answers, pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))


def _listen(requests: BinaryIO, incoming: queue.SimpleQueue[tuple[Path, Task[Any] | None]]) -> None:
    """Queue requests, and exit as soon as the parent is gone, even while a picture is being decoded."""
    while (request := read_message(requests)) is not None:
        incoming.put(request)
    os._exit(0)


if __name__ == "__main__":
    # As `__main__` this module's classes would unpickle as others than those of `clipkit.images.decode_worker`.
    from clipkit.images import decode_worker

    decode_worker.serve()
