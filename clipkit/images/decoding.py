"""One file to one upright RGB picture, or to one plain reason why not."""

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
from clipkit.images.files import describe_os_error, open_regular, refuse_larger
from clipkit.images.metadata import Metadata, merged, read_metadata, read_orientation
from clipkit.images.opening import DamagedHeader, UnknownFormat, ends_early, open_header, quiet
from clipkit.images.png_chunks import sixteen_bit_rgb
from clipkit.images.raw import RawTooLarge, RawUnsupported, begins_like_raw, hides_raw, read_raw
from clipkit.images.sidecars import read_sidecars
from clipkit.images.unsupported import Unsupported, speaks_of_unsupported, unusual_jpeg
from clipkit.images.upright import draft_size, turn_upright

IN_MEMORY = Path("<memory>")
"""The path that errors carry when the source was bytes."""

_MOST_JP2_HALVINGS = 5
_SIGNS_OF_TRUNCATION = ("truncat", "unexpected end", "end of file", "not enough", "incomplete", "got only", "eof")


@dataclass(frozen=True)
class Limits:
    """What a file may ask for: `pixels` of the decoded frame, `bytes` of the file."""

    pixels: int = 300_000_000
    bytes: int = 2 * 1024**3


@dataclass
class Picture:
    """A decoded picture.

    `image`: RGB, upright, perhaps reduced. `width`, `height`: of the full upright picture in pixels.
    `format`: "JPEG", "PNG", "HEIC", ..., for RAW files their extension ("NEF") or "RAW".
    `whole`: width and height of what `image` is a reduction of: the full picture, or the preview of a RAW file.
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
    """Decode a picture file, or the bytes of one, whatever its extension says.

    With `shortest_side` the result may be smaller than the file's picture, as long as its shorter side keeps at least
    that many pixels: JPEG and JPEG 2000 are then decoded at reduced scale, RAW files by their preview. Of animations
    and files of many pages the first frame is taken. Nothing is decoded before the header is within `limits`.

    Raises `UnreadableImage` and nothing else about the file. Pillow's `LOAD_TRUNCATED_IMAGES`, should the program have
    set it, is a switch of the whole process and is obeyed: then cut-off files come out grey instead of as failures.
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
        refuse_larger(path, size, limits.bytes)
        picture = _decode(file, path, shortest_side, limits)
    if not isinstance(source, bytes):
        picture.metadata = merged(picture.metadata, read_sidecars(path))
    return picture


def _decode(file: BinaryIO, path: Path, shortest_side: int | None, limits: Limits) -> Picture:
    raw_error: RawUnsupported | None = None
    if begins_like_raw(file.read(64), path.suffix):
        try:
            return _decode_raw(file, path, shortest_side, limits)
        except RawUnsupported as error:
            raw_error = error  # the extension may lie: an ordinary TIFF file is still read below
    try:
        image = open_header(file)
        _check_pixels(path, image.size, limits)
    except (UnknownFormat, DamagedHeader) as error:
        if raw_error is not None:
            raise UnreadableImage(path, "unsupported", str(raw_error)) from raw_error
        if isinstance(error, DamagedHeader) and error.format_name == "TIFF":
            try:  # a sensor's layout may be one that Pillow takes for nonsense
                return _decode_raw(file, path, shortest_side, limits)
            except UnreadableImage:
                raise
            except Exception:
                raise error from error.__cause__
        raise
    with image:
        if hides_raw(image):
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
        raise UnreadableImage(path, "too-large", _too_many_pixels(error.args, limits)) from error
    name = path.suffix[1:].upper() if begins_like_raw(b"", path.suffix) else "RAW"
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
    _check_pixels(path, image.size, limits)  # HEIF may learn its true size only now
    orientation = read_orientation(image)
    metadata = read_metadata(image)
    declared = declared_colour(image, file)
    if not scaled:
        full = image.size
    if orientation >= 5:
        full = full[1], full[0]
    upright = turn_upright(_reduced(_in_srgb(image, declared, file), shortest_side), orientation)
    if isinstance(upright, ImageFile.ImageFile):
        upright = upright.copy()  # pixels alone, without the decoder and its file
    upright.info = {}  # the old orientation and profile are no longer true of these pixels
    return Picture(upright, *full, _name(image), metadata)


def _in_srgb(image: ImageFile.ImageFile, declared: Declared, file: BinaryIO) -> Image.Image:
    """Convert the loaded picture; where its curve is far from sRGB's, 8 of 16 bits would not do for the shadows."""
    if image.format == "PNG" and isinstance(declared, ColourSpace) and not declared.is_srgb:
        values = sixteen_bit_rgb(file)
        if values is not None:
            converted = Image.fromarray(to_srgb(values, declared))
            if image.mode == "RGBA":
                converted.putalpha(image.getchannel("A"))
            return to_rgb(converted)
    return to_rgb(image, declared)


def _load_reduced_jp2(image: ImageFile.ImageFile, file: BinaryIO, shortest_side: int) -> ImageFile.ImageFile:
    """Decode JPEG 2000 at 1/2, 1/4, ...; how many halvings a file holds is known only to its decoder."""
    ratio = max(1, min(image.size) // shortest_side)
    for halvings in range(min(ratio.bit_length() - 1, _MOST_JP2_HALVINGS), 0, -1):
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
    """Average whole blocks of pixels away, so that formats without reduced decoding do not carry millions further."""
    factor = min(image.size) // shortest_side if shortest_side else 1
    # Called on the class: the JPEG 2000 plugin keeps a number under this name.
    return Image.Image.reduce(image, factor) if factor >= 2 else image


def _name(image: ImageFile.ImageFile) -> str:
    if image.format == "HEIF":
        return "HEIC"
    return "JPEG" if image.format == "MPO" else image.format or "unknown"


def _check_pixels(path: Path, size: tuple[int, int], limits: Limits) -> None:
    if size[0] * size[1] > limits.pixels:
        raise UnreadableImage(path, "too-large", _too_many_pixels(size, limits))


def _too_many_pixels(size: tuple[int, ...], limits: Limits) -> str:
    return f"it has {size[0]:,} x {size[1]:,} pixels; the limit is {limits.pixels:,}"


@contextmanager
def _plain_reasons(path: Path, file: BinaryIO) -> Iterator[None]:
    """Turn whatever a decoder raises into `UnreadableImage`."""
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as error:  # decoders of hostile bytes raise nearly every exception there is
        kind, reason = _explain(error, file)
        raise UnreadableImage(path, kind, reason) from error


def _explain(error: BaseException, file: BinaryIO) -> tuple[FailureKind, str]:
    if isinstance(error, UnknownFormat):
        return "not-an-image", "it is not a picture, or of a format that clipkit does not read"
    where = "the picture data"
    if isinstance(error, DamagedHeader):
        where = f"the {error.format_name} header"
        error = error.__cause__ or error
    if isinstance(error, RawUnsupported | Unsupported):
        return "unsupported", str(error)
    if isinstance(error, ImportError):
        return "unsupported", "this installation lacks the decoder: pip install pillow-heif"
    words = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, MemoryError):
        return "too-large", "decoding it takes more memory than there is"
    if isinstance(error, OverflowError | Image.DecompressionBombError) or "too large" in words.lower():
        return "too-large", f"it is larger than its decoder allows ({words})"
    if isinstance(error, OSError) and error.errno:
        return describe_os_error(error)
    cut_off = isinstance(error, EOFError | struct.error) or any(sign in words.lower() for sign in _SIGNS_OF_TRUNCATION)
    if not cut_off and speaks_of_unsupported(words):
        return "unsupported", f"it is of a kind that clipkit does not read ({words})"
    if cut_off or ends_early(file):
        return "truncated", f"{where} ends too early; the file was cut off or is damaged"
    if kind := unusual_jpeg(file):
        return "unsupported", f"it is a JPEG file of a kind that clipkit does not read ({kind})"
    return "unreadable", f"{where} is damaged ({words})"
