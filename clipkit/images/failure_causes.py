"""What a failure was due to, so that a file is tried again once that may have gone.

A cause is a line of text that the catalog keeps:

    here            the file could not be read at its place: permission, a bad sector, a share that does not answer
    entry           what is at its place is no file: a folder, a pipe, a link to nothing
    machine         decoding ran out of memory or time, or was killed
    limit:PIXELS    the picture is larger than was allowed
    missing:MODULE  a module that reads such files is not installed
    bytes:VERSIONS  the file's own bytes, as decoders of these versions read them
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from clipkit.errors import UnreadableImage
from clipkit.version import __version__

ACCESS, NOT_A_FILE, RESOURCES = "access", "not-a-file", "resources"

_DECODERS = ("pillow", "pillow-heif", "pylibjxl", "rawpy", "tifffile", "imagecodecs")
# Seeking where a damaged header points gives these: they speak of the bytes, not of the system.
_OF_BYTES = (None, 0, errno.EINVAL, errno.EOVERFLOW, errno.EDOM, errno.ERANGE)


def failure_cause(error: UnreadableImage, max_pixels: int) -> str:
    """Tell the cause of a failure from the exceptions that led to it; `max_pixels` were allowed."""
    if error.cause:
        return error.cause
    if error.kind == "vanished":
        return ACCESS
    for origin in _origins(error):
        if isinstance(origin, ImportError):
            return f"missing:{(origin.name or '').partition('.')[0]}"
        if isinstance(origin, MemoryError):
            return RESOURCES
        if isinstance(origin, OSError) and origin.errno not in _OF_BYTES:
            return ACCESS
    return f"limit:{max_pixels}" if error.kind == "too-large" else f"bytes:{_decoders()}"


def is_worth_retrying(cause: str, max_pixels: int) -> bool:
    """Say whether a file that failed for this cause, and has not changed since, is worth another try.

    `max_pixels`: how many are allowed now.
    """
    kind, _, detail = cause.partition(":")
    if kind == "limit":
        return not detail.isdecimal() or max_pixels > int(detail)
    if kind == "missing":
        return _can_import(detail)
    if kind == "bytes":
        return detail != _decoders()
    return True  # it lay outside the file, or an older clipkit did not note it


def _origins(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    origin: BaseException | None = error
    while origin is not None and id(origin) not in seen:
        seen.add(id(origin))
        yield origin
        origin = origin.__cause__ or (None if origin.__suppress_context__ else origin.__context__)


def _can_import(module: str) -> bool:
    if module not in {name.replace("-", "_") for name in _DECODERS}:
        return True  # nothing is imported because a catalog says so
    try:
        importlib.import_module(module)
    except Exception:  # installed, and broken, is missing too
        return False
    return True


@cache
def _decoders() -> str:
    """Name the installed decoders with their versions; new ones may read what the old ones could not."""
    found = [f"clipkit {__version__}"]
    for name in _DECODERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
