"""Uploaded and downloaded pictures, kept for a while so that further pages and a URL can name them."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from clipkit.errors import UnreadableImage
from clipkit.images.decode_pool import DecodePool
from clipkit.images.fetching import fetch
from clipkit.images.renditions import Checked
from clipkit.server.problems import NotFound


@dataclass(frozen=True)
class Upload:
    """A picture that was uploaded. `width`, `height`: upright, in pixels."""

    id: str
    path: Path
    bytes: int
    width: int
    height: int
    format: str
    kept_until: float

    def to_json(self) -> dict:
        """Return plain data."""
        return {
            "upload_id": self.id,
            "width": self.width,
            "height": self.height,
            "format": self.format,
            "seconds_left": max(0, round(self.kept_until - time.monotonic())),
        }


class Uploads:
    """A temporary folder of pictures, bounded in bytes and time; the oldest go first.

    Every picture is decoded once, in a child process of `pool`, before it is kept.
    """

    def __init__(self, pool: DecodePool, *, most_bytes: int, seconds: float) -> None:
        self.pool, self._most_bytes, self._seconds = pool, most_bytes, seconds
        self._folder = tempfile.TemporaryDirectory(prefix="clipkit-uploads-", ignore_cleanup_errors=True)
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._fetched: dict[str, str] = {}
        self._lock = Lock()
        self._key = secrets.token_bytes(32)

    def add(self, data: bytes) -> Upload:
        """Keep a picture. The same bytes get the same id, which nobody can guess. Raises UnreadableImage."""
        name = hashlib.blake2b(data, key=self._key, digest_size=16).hexdigest()
        path = Path(self._folder.name) / name
        if not self._renewed(name):
            path.write_bytes(data)
            checked = self.pool.run(path, Checked())
            if isinstance(checked, UnreadableImage):
                path.unlink(missing_ok=True)
                raise checked
            upload = Upload(name, path, len(data), *checked, time.monotonic() + self._seconds)
            with self._lock:
                self._kept[name] = upload
                self._make_room()
        return self._kept[name]

    def get(self, name: str) -> Upload:
        """Return an upload. Raises NotFound once it has expired."""
        with self._lock:
            self._make_room()
            if name in self._kept:
                return self._kept[name]
        raise _expired()

    def hold(self, name: str) -> Path:
        """Return a further file with an upload's bytes, which its owner deletes. Raises NotFound."""
        upload = self.get(name)
        path = upload.path.with_name(f"{name}-{secrets.token_hex(8)}")
        try:
            os.link(upload.path, path)
        except FileNotFoundError:
            raise _expired() from None
        except OSError:  # not every file system has links
            shutil.copyfile(upload.path, path)
        return path

    def fetch(self, url: str) -> Upload:
        """Download a picture from a public address, or return it if that was done lately.

        Raises FetchRefused, UnreadableImage.
        """
        name = self._fetched.get(url)
        if name is not None and (upload := self._kept.get(name)) and upload.kept_until > time.monotonic():
            return upload
        upload = self.add(fetch(url))
        self._fetched[url] = upload.id
        return upload

    def close(self) -> None:
        """Delete everything."""
        self._folder.cleanup()

    def _renewed(self, name: str) -> bool:
        with self._lock:
            if name not in self._kept:
                return False
            self._kept[name] = replace(self._kept.pop(name), kept_until=time.monotonic() + self._seconds)
            return True

    def _make_room(self) -> None:
        total = sum(upload.bytes for upload in self._kept.values())
        for name, upload in list(self._kept.items()):
            if upload.kept_until > time.monotonic() and total <= self._most_bytes:
                break
            del self._kept[name]
            total -= upload.bytes
            upload.path.unlink(missing_ok=True)
            self._fetched = {url: kept for url, kept in self._fetched.items() if kept != name}


def _expired() -> NotFound:
    return NotFound("that upload has expired: upload the picture again")
