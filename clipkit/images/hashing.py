"""Hash the bytes of a file, to identify its content."""

from __future__ import annotations

from pathlib import Path

import xxhash

from clipkit.errors import UnreadableImage
from clipkit.images.file_access import describe_os_error, open_regular
from clipkit.images.limits import check_file_size

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
