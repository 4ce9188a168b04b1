"""Causes of failures, and whether a failed file is worth retrying.

A cause is a line of text in the catalog:

    access          the file could not be read: permissions, a bad sector, a share that does not respond
    not-a-file      the path is a folder, a pipe or a dangling symlink
    resources       decoding ran out of memory or time, or was killed
    limit:PIXELS    the picture exceeds a limit of this many pixels
    missing:MODULE  the module that reads such files is not installed
    bytes:VERSIONS  decoders of these versions could not read the file's bytes
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
# Errors of seeking to an offset from a corrupt header: these are due to the bytes, not the system.
_OF_BYTES = (None, 0, errno.EINVAL, errno.EOVERFLOW, errno.EDOM, errno.ERANGE)


def failure_cause(error: UnreadableImage, max_pixels: int) -> str:
    """Return the cause of a failure, from its chain of exceptions and the pixel limit that applied."""
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
    """Return whether a file that failed for this cause, and has not changed since, is worth retrying.

    `max_pixels` is the limit that applies now.
    """
    kind, _, detail = cause.partition(":")
    if kind == "limit":
        return not detail.isdecimal() or max_pixels > int(detail)
    if kind == "missing":
        return _can_import(detail)
    if kind == "bytes":
        return detail != _decoders()
    return True  # the cause is outside the file, or was recorded by an older clipkit


def _origins(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    origin: BaseException | None = error
    while origin is not None and id(origin) not in seen:
        seen.add(id(origin))
        yield origin
        origin = origin.__cause__ or (None if origin.__suppress_context__ else origin.__context__)


def _can_import(module: str) -> bool:
    if module not in {name.replace("-", "_") for name in _DECODERS}:
        return True  # never import a module only because a catalog names it
    try:
        importlib.import_module(module)
    except Exception:  # a broken installation counts as missing
        return False
    return True


@cache
def _decoders() -> str:
    """Return the installed decoders with their versions: newer ones may read what older ones could not."""
    found = [f"clipkit {__version__}"]
    for name in _DECODERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
