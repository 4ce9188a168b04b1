"""Decode one file to an upright RGB picture, or say in one line why not."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

from clipkit.errors import FailureKind, UnreadableImage
from clipkit.images.colour import Declared, to_rgb
from clipkit.images.colour_space import ColourSpace, to_srgb
from clipkit.images.declared_colour import declared_colour
from clipkit.images.file_access import describe_os_error, open_regular
from clipkit.images.limits import Limits, check_file_size, check_pixels
from clipkit.images.metadata import read_metadata
from clipkit.images.metadata_record import Metadata, merge_metadata
from clipkit.images.opening import DamagedHeader, UnknownFormat, draft_size, is_truncated, open_header, quiet
from clipkit.images.orientation import apply_orientation, read_orientation, swaps_sides
from clipkit.images.png_chunks import sixteen_bit_rgb
from clipkit.images.raw import RawTooLarge, RawUnsupported, contains_raw, looks_like_raw, read_raw
from clipkit.images.sidecars import read_sidecars
from clipkit.images.unsupported import Unsupported, is_unsupported_message, unsupported_jpeg_kind

IN_MEMORY = Path("<memory>")
"""The path in errors about pictures that were given as bytes."""

_MAX_JP2_HALVINGS = 5
_SIGNS_OF_TRUNCATION = ("truncat", "unexpected end", "end of file", "not enough", "incomplete", "got only", "eof")


@dataclass
class Picture:
    """A decoded picture.

    `image`: RGB, upright, possibly reduced.
    `width`, `height`: of the full upright picture, in pixels.
    `format`: "JPEG", "PNG", "HEIC", ...; for RAW files their extension ("NEF") or "RAW".
    `whole`: (width, height) before `image` was reduced: the full picture, or the preview of a RAW file.
    """

    image: Image.Image
    width: int
    height: int
    format: str
    metadata: Metadata = field(default_factory=Metadata)
    whole: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.whole == (0, 0):
            self.whole = self.width, self.height


def open_picture(source: Path | bytes, *, shortest_side: int | None = None, limits: Limits | None = None) -> Picture:
    """Decode a picture from a file or from bytes. The format is detected from the content, not the extension.

    With `shortest_side`, the result may be reduced as long as its shorter side keeps at least that many pixels: JPEG
    and JPEG 2000 are decoded at reduced scale, RAW files fall back on their preview. Animations and multi-page files
    yield their first frame. Nothing is decoded until the header is within `limits`.

    Raises only `UnreadableImage` for a bad file. Pillow's process-wide `LOAD_TRUNCATED_IMAGES` is honoured: if the
    program sets it, truncated files are padded with grey instead of failing.
    """
    limits = limits or Limits()
    path = IN_MEMORY if isinstance(source, bytes) else Path(source)
    if isinstance(source, bytes):
        file: BinaryIO = io.BytesIO(source)
        size = len(source)
    else:
        file, status = open_regular(path)
        size = status.st_size
    with file, quiet(), _plain_reasons(path, file):
        if size == 0:
            raise UnreadableImage(path, "not-an-image", "the file is empty")
        check_file_size(path, size, limits.bytes)
        picture = _decode(file, path, shortest_side, limits)
    if not isinstance(source, bytes):
        picture.metadata = merge_metadata(picture.metadata, read_sidecars(path))
    return picture


def _decode(file: BinaryIO, path: Path, shortest_side: int | None, limits: Limits) -> Picture:
    raw_error: RawUnsupported | None = None
    if looks_like_raw(file.read(64), path.suffix):
        try:
            return _decode_raw(file, path, shortest_side, limits)
        except RawUnsupported as error:
            raw_error = error  # the extension may be wrong: an ordinary TIFF file is still read below
    try:
        image = open_header(file)
        check_pixels(path, *image.size, limits.pixels)
    except (UnknownFormat, DamagedHeader) as error:
        if raw_error is not None:
            raise UnreadableImage(path, "unsupported", str(raw_error)) from raw_error
        if isinstance(error, DamagedHeader) and error.format_name == "TIFF":
            try:  # Pillow rejects some sensor layouts as damaged TIFF
                return _decode_raw(file, path, shortest_side, limits)
            except UnreadableImage:
                raise
            except Exception:
                raise error from error.__cause__
        raise
    with image:
        if contains_raw(image):
            if raw_error is None:
                try:
                    return _decode_raw(file, path, shortest_side, limits)
                except RawUnsupported as error:
                    raw_error = error
            raise UnreadableImage(path, "unsupported", str(raw_error)) from raw_error
        return _decode_opened(image, file, path, shortest_side, limits)


def _decode_raw(file: BinaryIO, path: Path, shortest_side: int | None, limits: Limits) -> Picture:
    try:
        raw = read_raw(file, shortest_side=shortest_side, max_pixels=limits.pixels)
    except RawTooLarge as error:
        check_pixels(path, error.width, error.height, limits.pixels)
        raise
    name = path.suffix[1:].upper() if looks_like_raw(b"", path.suffix) else "RAW"
    return Picture(_reduced(raw.image, shortest_side), raw.width, raw.height, name, raw.metadata, raw.whole)


def _decode_opened(
    image: ImageFile.ImageFile, file: BinaryIO, path: Path, shortest_side: int | None, limits: Limits
) -> Picture:
    full, scaled = image.size, False
    if shortest_side is not None and image.format == "JPEG2000":
        image = _load_reduced_jp2(image, file, shortest_side)
        scaled = image.size != full
    else:
        if shortest_side is not None:
            scaled = image.draft(None, draft_size(full, shortest_side)) is not None and image.size != full
        image.load()
    check_pixels(path, *image.size, limits.pixels)  # HEIF may know its true size only after decoding
    orientation = read_orientation(image)
    metadata = read_metadata(image)
    declared = declared_colour(image, file)
    if not scaled:
        full = image.size
    if swaps_sides(orientation):
        full = full[1], full[0]
    upright = apply_orientation(_reduced(_in_srgb(image, declared, file), shortest_side), orientation)
    if isinstance(upright, ImageFile.ImageFile):
        upright = upright.copy()  # drop the decoder and its file
    upright.info = {}  # its orientation and profile no longer apply to these pixels
    return Picture(upright, *full, _name(image), metadata)


def _in_srgb(image: ImageFile.ImageFile, declared: Declared, file: BinaryIO) -> Image.Image:
    """Convert a loaded picture to sRGB.

    16-bit PNG files with a non-sRGB curve are converted from all 16 bits: 8 would leave banding in the shadows.
    """
    if image.format == "PNG" and isinstance(declared, ColourSpace) and not declared.is_srgb:
        values = sixteen_bit_rgb(file)
        if values is not None:
            converted = Image.fromarray(to_srgb(values, declared))
            if image.mode == "RGBA":
                converted.putalpha(image.getchannel("A"))
            return to_rgb(converted)
    return to_rgb(image, declared)


def _load_reduced_jp2(image: ImageFile.ImageFile, file: BinaryIO, shortest_side: int) -> ImageFile.ImageFile:
    """Decode JPEG 2000 at 1/2, 1/4, ... scale; only the decoder knows how many halvings a file supports."""
    ratio = max(1, min(image.size) // shortest_side)
    for halvings in range(min(ratio.bit_length() - 1, _MAX_JP2_HALVINGS), 0, -1):
        try:
            image.reduce = halvings  # type: ignore[assignment,method-assign]
            image.load()
            if min(image.size) >= shortest_side:
                return image
        except OSError:
            pass
        image = open_header(file)
    image.load()
    return image


def _reduced(image: Image.Image, shortest_side: int | None) -> Image.Image:
    """Reduce by a whole factor, for formats without reduced-scale decoding, so that later steps handle fewer pixels."""
    factor = min(image.size) // shortest_side if shortest_side else 1
    # Called on the class: the JPEG 2000 plugin stores a number in `image.reduce`.
    return Image.Image.reduce(image, factor) if factor >= 2 else image


def _name(image: ImageFile.ImageFile) -> str:
    if image.format == "HEIF":
        return "HEIC"
    return "JPEG" if image.format == "MPO" else image.format or "unknown"


@contextmanager
def _plain_reasons(path: Path, file: BinaryIO) -> Iterator[None]:
    """Turn any decoder error into `UnreadableImage`."""
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise almost anything on hostile bytes
        kind, reason = _explain(error, file)
        raise UnreadableImage(path, kind, reason) from error


def _explain(error: BaseException, file: BinaryIO) -> tuple[FailureKind, str]:
    if isinstance(error, UnknownFormat):
        return "not-an-image", "it is not a picture, or is in a format that clipkit does not read"
    where = "the picture data"
    if isinstance(error, DamagedHeader):
        where = f"the {error.format_name} header"
        error = error.__cause__ or error
    if isinstance(error, RawUnsupported | Unsupported):
        return "unsupported", str(error)
    if isinstance(error, ImportError):
        return "unsupported", "the decoder is not installed: pip install pillow-heif"
    words = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, MemoryError):
        return "too-large", "out of memory while decoding"
    if isinstance(error, OverflowError | Image.DecompressionBombError) or "too large" in words.lower():
        return "too-large", f"it exceeds the limits of its decoder ({words})"
    if isinstance(error, OSError) and error.errno:
        return describe_os_error(error)
    cut_off = isinstance(error, EOFError | struct.error) or any(sign in words.lower() for sign in _SIGNS_OF_TRUNCATION)
    if not cut_off and is_unsupported_message(words):
        return "unsupported", f"clipkit does not read this variant of the format ({words})"
    if cut_off or is_truncated(file):
        return "truncated", f"{where} ends too early: the file is truncated or corrupt"
    if kind := unsupported_jpeg_kind(file):
        return "unsupported", f"clipkit does not read this variant of JPEG ({kind})"
    return "unreadable", f"{where} is corrupt ({words})"
