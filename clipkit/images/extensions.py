"""File name extensions of pictures: which files a scan considers, and which of them are camera RAW."""

from __future__ import annotations

RAW_EXTENSIONS = frozenset(
    [
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".crw",
        ".dcr",
        ".dng",
        ".erf",
        ".fff",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    ]
)
"""Extensions of camera RAW formats, lowercase and with the dot."""

EXTENSIONS = RAW_EXTENSIONS | frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".dib",
        ".gif",
        ".jp2",
        ".j2k",
        ".j2c",
        ".jpc",
        ".jpf",
        ".jpx",
        ".pnm",
        ".pbm",
        ".pgm",
        ".ppm",
        ".heic",
        ".heics",
        ".heif",
        ".heifs",
        ".hif",
        ".avif",
        ".avifs",
        ".jxl",
    ]
)
"""Extensions of all pictures that a scan finds, lowercase and with the dot, as `Path.suffix.lower()` returns them."""
