"""Hash the bytes of a file, or the pixels of an image, to identify its content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from clipkit.errors import UnreadableImage
from clipkit.images.file_access import describe_os_error, open_regular
from clipkit.images.limits import Limits, check_file_size

if TYPE_CHECKING:
    from PIL.Image import Image

_CHUNK_BYTES = 1 << 20


def content_hash(path: Path, max_bytes: int | None = None) -> str:
    """Return the XXH3-128 hash of a file as 32 hexadecimal digits.

    The hash is not cryptographic: it does not protect against deliberate collisions.
    Raises `UnreadableImage` if the file cannot be read completely, or, before reading, if it exceeds `max_bytes`.
    """
    digest = xxhash.xxh3_128()
    file, status = open_regular(path)
    with file:
        if max_bytes is not None:
            check_file_size(path, status.st_size, max_bytes)
        try:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        except OSError as error:
            raise UnreadableImage(path, *describe_os_error(error)) from error
    return digest.hexdigest()


def hash_of_bytes(data: bytes) -> str:
    """Return the hash of a file whose bytes are in memory, as `content_hash`."""
    return xxhash.xxh3_128_hexdigest(data)


def hash_of_pixels(image: Image) -> str:
    """Return a hash of an image that has no file, of its mode, size and pixels, in the same form."""
    digest = xxhash.xxh3_128(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def hash_of_picture(picture: object) -> str:
    """Return the hash of a picture: of its file's bytes, or of its pixels; empty for URLs and unreadable files."""
    from PIL.Image import Image

    if isinstance(picture, bytes):
        return hash_of_bytes(picture)
    if isinstance(picture, Image):
        return hash_of_pixels(picture)
    if not isinstance(picture, str | Path):
        return ""
    try:
        return content_hash(Path(picture), Limits().bytes)
    except (UnreadableImage, OSError, ValueError):
        return ""
