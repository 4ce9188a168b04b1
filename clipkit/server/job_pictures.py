"""How the pictures of a job travel to the child process, as plain data: found, checked, and held until the job ends."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from clipkit.errors import UnreadableImage
from clipkit.generation.operations.sources import Source
from clipkit.images.decode_pool import DecodePool
from clipkit.images.decode_worker import Task
from clipkit.images.decoding import open_picture
from clipkit.images.hashing import content_hash
from clipkit.images.renditions import Brightest, Checked, cropped
from clipkit.library import Library
from clipkit.searching.query import NAMELESS, Query, Words, is_url
from clipkit.server.parameters import PictureRef
from clipkit.server.query_pictures import locate
from clipkit.server.uploads import Uploads

R = TypeVar("R")
Size = tuple[int, int]
"""Width and height of the upright picture, in pixels."""


@dataclass
class JobPictures:
    """The pictures of one job. What was uploaded or downloaded is held, because it may expire while the job waits."""

    library: Library
    uploads: Uploads
    decoders: DecodePool
    _held: list[Path] = field(default_factory=list)
    _sent: dict[PictureRef, dict[str, Any]] = field(default_factory=dict)

    def send(self, ref: PictureRef) -> dict[str, Any]:
        """Return what names a picture to the child: its file, and its name if it has one.

        Raises NotFound, PictureAway, FetchRefused, UnreadableImage.
        """
        whole = replace(ref, region=None)
        if whole not in self._sent:
            self._sent[whole] = self._send(whole)
        return self._sent[whole] | ({"region": list(ref.region)} if ref.region else {})

    def _send(self, ref: PictureRef) -> dict[str, Any]:
        path = locate(ref, self.library, self.uploads)
        if ref.source in ("upload", "url"):
            path = self.uploads.hold(path.name)
            self._held.append(path)
            name = ref.key if ref.source == "url" else NAMELESS
        else:
            name = os.fspath(path)
        return {"file": os.fspath(path), "name": name}

    def size(self, sent: dict[str, Any]) -> Size:
        """Return the size of a picture that was sent. Raises UnreadableImage if it cannot be decoded."""
        return self._run(sent, Checked())[:2]

    def brightest(self, sent: dict[str, Any]) -> int:
        """Return the largest luminance of a picture that was sent, 0 to 255. Raises UnreadableImage."""
        return self._run(sent, Brightest())

    def _run(self, sent: dict[str, Any], task: Task[R]) -> R:
        path = Path(sent["file"])
        pool = self.uploads.pool if path in self._held else self.decoders
        found = pool.run(path, task)
        if isinstance(found, UnreadableImage):
            raise found
        return found

    def release(self) -> None:
        """Delete what was held."""
        for path in self._held:
            with suppress(OSError):  # the server ends, and its uploads are gone
                path.unlink(missing_ok=True)


def as_source(sent: dict[str, Any]) -> Source:
    """Return a picture that was sent, as an operation takes it."""
    path = Path(sent["file"])
    return Source(sent["name"], path if _is_named(sent) else path.read_bytes(), content_hash(path))


def as_item(sent: dict[str, Any]) -> Source | Words:
    """Return a picture or text that was sent; the text is never taken for a file."""
    return Words(sent["text"]) if "text" in sent else as_source(sent)


def as_mask(sent: dict[str, Any]) -> Path | bytes:
    """Return a mask that was sent."""
    path = Path(sent["file"])
    return path if _is_named(sent) else path.read_bytes()


def as_query(sent: dict[str, Any]) -> Query:
    """Return a query that was sent, with the regions of its pictures cut out."""
    read = cache(Path.read_bytes)  # the same picture may be named several times

    def term(value: dict[str, Any]) -> Any:
        if "text" in value:
            return Words(value["text"])
        path = Path(value["file"])
        if "region" in value:
            return cropped(open_picture(path), tuple(value["region"]), path)
        if is_url(value["name"]):
            return value["name"]
        return path if _is_named(value) else read(path)

    return Query(
        text=sent["text"],
        also=tuple(sent["also"]),
        like=tuple(term(value) for value in sent["like"]),
        not_=tuple(term(value) for value in sent["not"]),
        weights=tuple(sent["weights"]),
    )


def _is_named(sent: dict[str, Any]) -> bool:
    """Return whether the file itself is what the record names."""
    return sent["name"] == sent["file"]
