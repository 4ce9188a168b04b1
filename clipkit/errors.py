"""The errors that clipkit raises on purpose; the command line prints each as one line and exits with 2."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

FailureKind = Literal[
    "not-an-image", "truncated", "too-large", "unreadable", "vanished", "unsupported", "directory", "crashed", "timeout"
]


class ClipkitError(Exception):
    """Base of all: its message is one line that says what is wrong and what to do."""


class BadQuery(ClipkitError):
    """A query, weight or filter that cannot be understood."""


class LibraryNotFound(ClipkitError):
    """No library at that path or of that name."""


class LibraryBusy(ClipkitError):
    """Another process is writing to the library."""


class LibraryDamaged(ClipkitError):
    """The catalog or a derived file is torn in a way that needs `clipkit check --repair`."""


class ModelNotAvailable(ClipkitError):
    """The model of a space is unknown, or not on this machine."""


class DownloadFailed(ModelNotAvailable):
    """A model could not be downloaded: no network, a wrong hash, or the hub refuses."""


class FetchRefused(ClipkitError):
    """A URL that is not fetched: wrong scheme, private address, too large, too slow, or no picture."""


class UnreadableImage(ClipkitError):
    """A file that yields no picture.

    Attributes: `path`, `kind` (one of `FailureKind`, a stable word for programs), `reason` (one line for people), and
    `cause` where whoever raises it knows better than `clipkit.images.failure_causes.failure_cause` what it was due to.
    """

    def __init__(self, path: Path, kind: FailureKind, reason: str, cause: str = "") -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.kind, self.reason, self.cause = path, kind, reason, cause

    def __reduce__(self):
        return type(self), (self.path, self.kind, self.reason, self.cause)


class DecoderNotAvailable(ClipkitError):
    """A decoder or prior is unknown, not on this machine, or takes another space's embeddings."""
