"""Open a picture as a Pillow image without decoding it, and without changing Pillow's global state."""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clipkit.images.jpeg_xl import CODESTREAM, CONTAINER, JpegXlFile
from clipkit.images.png_chunks import read_chunks
from clipkit.images.tiff import open_tiff

# Pillow logs damaged files as errors, which Python prints on stderr if the program has no log handlers.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnknownFormat(ValueError):
    """The file is not in a picture format that clipkit reads."""


class DamagedHeader(ValueError):
    """The file has the signature of a known format but an invalid header; `__cause__` is the decoder's error."""

    def __init__(self, format_name: str) -> None:
        super().__init__(format_name)
        self.format_name = format_name


_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def format_of(head: bytes) -> str | None:
    """Detect the picture format from the first bytes of a file (64 suffice); None if it is unknown."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    if head[4:8] == b"ftyp":
        # Both formats use `mif1`; then the compatible brands decide.
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), _be32(head[:4])), 4))]
        if brands[0] in _AVIF_BRANDS or (brands[0] in (b"mif1", b"msf1") and any(b in _AVIF_BRANDS for b in brands)):
            return "AVIF"
        return "HEIF" if brands[0] in _HEIF_BRANDS else None
    if head.startswith((CODESTREAM, CONTAINER)):
        return "JXL"
    if head.startswith(b"BM"):
        return "BMP"
    if re.match(rb"P[1-6f][\s#]|P0CMYK|PyP|PyRGBA|PyCMYK", head):
        return "PPM"
    return None


def _heif(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    # Not `register_heif_opener()`, which would change Pillow for the whole program.
    from pillow_heif import HeifImageFile

    return HeifImageFile(file, name)


def _png(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    chunks = read_chunks(file)
    chunks.stream.seek(0)
    image = PngImagePlugin.PngImageFile(chunks.stream, name)
    image.info.update(chunks.info)
    return image


_FACTORIES: dict[str, Callable[[BinaryIO, str], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": _png,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": open_tiff,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "HEIF": _heif,
    "JXL": JpegXlFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}


def open_header(file: BinaryIO) -> ImageFile.ImageFile:
    """Read the header of a picture and return a Pillow image that is not decoded yet.

    The format is detected from the content. `Image.open` is not used, because it checks the process-wide
    `Image.MAX_IMAGE_PIXELS`, tries forty formats, some of which start Ghostscript, and reports every damaged file as
    unidentified.

    Raises `UnknownFormat`, or `DamagedHeader` with the decoder's error as its cause. Callers must check the pixels.
    """
    file.seek(0)
    name = format_of(file.read(64))
    if name is None:
        raise UnknownFormat
    file.seek(0)
    try:
        image = _FACTORIES[name](file, "")
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        raise DamagedHeader(name) from error
    if min(image.size) < 1:
        raise DamagedHeader(name) from ValueError("it has no pixels")
    return image


def draft_size(size: tuple[int, int], shortest_side: int) -> tuple[int, int]:
    """Return the smallest (width, height) of the same shape whose shorter side is at least `shortest_side` pixels."""
    width, height = size
    shorter = min(size)
    if shorter <= shortest_side:
        return size
    return -(-width * shortest_side // shorter), -(-height * shortest_side // shorter)


def is_truncated(file: BinaryIO) -> bool:
    """Return whether a file in a chunked container ends before its chunks do."""
    try:
        file.seek(0, 2)
        size = file.tell()
        file.seek(0)
        head = file.read(16)
        if head[:4] == b"RIFF":
            return struct.unpack("<I", head[4:8])[0] + 8 > size
        if head.startswith(b"\xff\x4f\xff\x51"):
            return _lacks_end_of_codestream(file, size)
        if format_of(head) == "TIFF":
            return _tiff_end(file, head, size) > size
        if head[4:8] not in (b"ftyp", b"jP  "):
            return False
        position = 0
        while position + 8 <= size:
            file.seek(position)
            box = file.read(16)
            length = _be32(box[:4])
            if length == 1:
                length = struct.unpack(">Q", box[8:16])[0]
            if length == 0:
                return box[4:8] == b"jp2c" and _lacks_end_of_codestream(file, size)
            if length < 8:
                return False
            position += length
        return position != size
    except Exception:  # the file is known to be corrupt, so parsing it again may raise anything
        return False


def _tiff_end(file: BinaryIO, head: bytes, size: int) -> int:
    """Return where the first directory of a TIFF file and its strips or tiles end: usually the end of the file."""
    order = "<" if head[:2] == b"II" else ">"
    (directory,) = struct.unpack(order + "I", head[4:8])
    file.seek(directory)
    count = file.read(2)
    if len(count) < 2:
        return directory + 2
    end = directory + 2 + 12 * struct.unpack(order + "H", count)[0]
    if end > size:
        return end
    file.seek(0)
    tags = TiffImagePlugin.TiffImageFile(file, "").tag_v2
    starts, lengths = (tags.get(strips) or tags.get(tiles) or () for strips, tiles in ((273, 324), (279, 325)))
    return max([end, *(start + length for start, length in zip(starts, lengths, strict=False))])


def _lacks_end_of_codestream(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 2))
    return file.read(2) != b"\xff\xd9"


def _be32(data: bytes) -> int:
    return int.from_bytes(data, "big")


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filter: Any = None


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Python warnings from Pillow, pillow_heif and rawpy about the file being read, and only those.

    libtiff and LibRaw print on file descriptor 2; only a child process, such as `decode_worker`, can redirect that
    without affecting the rest of the program.

    `warnings.catch_warnings` is not thread-safe: one thread would restore the filters of another. Here the first
    thread in adds one filter for these modules, and the last one out removes it.
    """
    global _quiet_depth, _quiet_filter
    with _quiet_lock:
        if _quiet_depth == 0:
            warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif|rawpy)(\.|$)")
            _quiet_filter = warnings.filters[0]
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _quiet_filter in warnings.filters:
                warnings.filters.remove(_quiet_filter)  # type: ignore[attr-defined]
