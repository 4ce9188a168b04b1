"""The errors that clipkit raises on purpose; the command line prints each as one line and exits with 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

FailureKind = Literal[
    "not-an-image", "truncated", "too-large", "unreadable", "vanished", "unsupported", "directory", "crashed", "timeout"
]


class ClipkitError(Exception):
    """The base class; the message is one line that says what is wrong and what to do."""


class BadQuery(ClipkitError):
    """An invalid query, weight or filter."""


class LibraryNotFound(ClipkitError):
    """There is no library at that path or of that name."""


class LibraryBusy(ClipkitError):
    """Another process is writing to the library."""


class LibraryDamaged(ClipkitError):
    """The catalog or a search index is corrupt and needs `clipkit check --repair`."""


class ModelNotAvailable(ClipkitError):
    """A model is unknown, or not on this machine."""


class DownloadFailed(ModelNotAvailable):
    """A model could not be downloaded: no network, a checksum mismatch, or access denied by the hub."""


class FetchRefused(ClipkitError):
    """A URL was not fetched: wrong scheme, private address, too large, too slow, or not an image."""


class UnreadableImage(ClipkitError):
    """A file that could not be decoded.

    `kind`: one of `FailureKind`, stable for programs.
    `reason`: one line for people.
    `cause`: set where the raiser knows better than `clipkit.images.failure_causes.failure_cause`.
    """

    def __init__(self, path: Path, kind: FailureKind, reason: str, cause: str = "") -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.kind, self.reason, self.cause = path, kind, reason, cause

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.kind, self.reason, self.cause)


class DecoderNotAvailable(ClipkitError):
    """A decoder or prior is unknown, not on this machine, or takes another model's embeddings."""


class GenerationRefused(ClipkitError):
    """A picture was not generated, or not kept, because the list of refused concepts has what it shows."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; its class name if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
