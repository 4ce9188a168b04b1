"""Recognise intact files of a kind that clipkit cannot decode."""

from __future__ import annotations

from typing import BinaryIO

# From messages of Pillow, libtiff, libheif and libavif about unsupported layouts, in lower case.
_WORDS = (
    "unknown pixel mode",
    "unknown raw mode",
    "unsupported",
    "not supported",
    "cannot handle",
    "not implemented",
    "unable to determine j2k image mode",
    "unknown compression",
    "unknown photometric",
    "no suitable",
    "not compiled",
)


class Unsupported(ValueError):
    """The file is of a kind that clipkit does not decode; the message is for users."""


def is_unsupported_message(words: str) -> bool:
    """Return whether a decoder's message says that the file is unsupported, rather than corrupt."""
    return any(sign in words.lower() for sign in _WORDS)


def unsupported_jpeg_kind(file: BinaryIO) -> str | None:
    """Return what makes a JPEG file unsupported, from its frame header; None for an ordinary one."""
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return None
    while (marker := file.read(2)) and len(marker) == 2 and marker[0] == 0xFF:
        if marker[1] == 0xFF:  # a fill byte
            file.seek(-1, 1)
            continue
        length = int.from_bytes(file.read(2), "big")
        if marker[1] in range(0xC0, 0xD0) and marker[1] not in (0xC4, 0xC8, 0xCC):
            bits = int.from_bytes(file.read(1), "big")
            if marker[1] in (0xC0, 0xC1, 0xC2):
                return f"{bits} bits a channel" if bits != 8 else None
            return {0xC3: "lossless", 0xC9: "arithmetic coding", 0xCA: "arithmetic coding"}.get(marker[1], "rare")
        if marker[1] == 0xF7:
            return "JPEG-LS"
        if length < 2:
            return None
        file.seek(length - 2, 1)
    return None
