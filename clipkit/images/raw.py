"""Decode camera RAW files: the embedded preview if it is large enough, else the developed sensor data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from PIL import Image, ImageFile

from clipkit.images.colour import Declared, to_rgb
from clipkit.images.declared_colour import declared_colour
from clipkit.images.extensions import RAW_EXTENSIONS
from clipkit.images.metadata import read_metadata
from clipkit.images.metadata_record import NAME_LENGTH, Metadata, clean, merge_metadata
from clipkit.images.opening import draft_size, format_of, open_header
from clipkit.images.orientation import apply_orientation, read_orientation, swaps_sides
from clipkit.images.raw_metadata import read_raw_metadata

_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
# LibRaw's `flip` as EXIF orientation: 180 degrees, 90 counterclockwise, 90 clockwise.
_ORIENTATION_OF_FLIP = {3: 3, 5: 8, 6: 6}
# A preview of at least this share of the full size replaces the development, which takes seconds.
_FULL_SIZE = 0.9


class RawUnsupported(Exception):
    """rawpy is missing, or LibRaw does not support the file; the message is for users."""


class RawTooLarge(Exception):
    """The sensor's picture, `width` x `height`, has more pixels than allowed."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self.width, self.height = width, height


@dataclass
class RawPicture:
    """An upright RGB picture from a RAW file.

    `width`, `height`: of the sensor's full picture, upright.
    `whole`: (width, height) before `image` was reduced: the sensor's, or the preview's, which may differ in shape.
    """

    image: Image.Image
    width: int
    height: int
    metadata: Metadata
    whole: tuple[int, int]


def looks_like_raw(head: bytes, suffix: str) -> bool:
    """Return whether a file is RAW, by its first bytes or, if those are TIFF's, by its extension."""
    if head.startswith(_MAGIC) or head[4:12] == b"ftypcrx " or (head[:2] in (b"II", b"MM") and head[8:10] == b"CR"):
        return True
    return suffix.lower() in RAW_EXTENSIONS and format_of(head) in (None, "TIFF")


def contains_raw(image: Image.Image) -> bool:
    """Return whether a TIFF that Pillow opened is only the thumbnail of sensor data."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return False
    has_dng_version, is_thumbnail = 50706 in tags, tags.get(254) == 1 and 330 in tags
    return has_dng_version or is_thumbnail or tags.get(259) in (34713, 32767) or tags.get(262) in (32803, 34892)


def read_raw(file: BinaryIO, *, shortest_side: int | None, max_pixels: int) -> RawPicture:
    """Decode a RAW file, reading it into memory.

    With `shortest_side`, the embedded preview is used if its shorter side is at least that; else the sensor data is
    developed at half size (one pixel per 2 x 2 cell) if that suffices, else at full size.

    Raises `RawUnsupported`, `RawTooLarge`, or whatever LibRaw and Pillow raise on corrupt data.
    """
    try:
        import rawpy
    except ImportError as error:
        raise RawUnsupported('reading camera RAW files needs rawpy: pip install "clipkit[raw]"') from error
    file.seek(0)
    try:
        raw = rawpy.imread(file)
    except (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError) as error:
        raise RawUnsupported("LibRaw does not support this RAW format, or the file is corrupt") from error
    with raw:
        width, height = raw.sizes.width, raw.sizes.height
        if width * height > max_pixels:
            raise RawTooLarge(width, height)
        orientation = _ORIENTATION_OF_FLIP.get(raw.sizes.flip, 1)
        if swaps_sides(orientation):
            width, height = height, width
        wanted = shortest_side or int(min(width, height) * _FULL_SIZE)
        preview = _preview(rawpy, raw, orientation, (width, height), wanted, max_pixels)
        if preview:
            metadata = merge_metadata(read_raw_metadata(file), preview.metadata)
            return RawPicture(preview.image, width, height, metadata, preview.whole)
        half = shortest_side is not None and min(width, height) // 2 >= shortest_side
        developed = raw.postprocess(half_size=half, use_camera_wb=True, output_bps=8)
        metadata = merge_metadata(read_raw_metadata(file), _of_preview(rawpy, raw), _of_libraw(raw))
    if developed.ndim == 3 and developed.shape[2] == 1:
        developed = developed[:, :, 0]
    return RawPicture(Image.fromarray(developed).convert("RGB"), width, height, metadata, (width, height))


def _preview(
    rawpy: Any, raw: Any, orientation: int, full: tuple[int, int], wanted: int, max_pixels: int
) -> RawPicture | None:
    """Return the embedded preview, upright, if it is the whole picture and its shorter side is at least `wanted`."""
    declared: Declared = None
    try:
        thumbnail = raw.extract_thumb()
        if thumbnail.format == rawpy.ThumbFormat.BITMAP:
            picture: Image.Image = Image.fromarray(thumbnail.data)
            own_orientation, metadata, whole = 1, Metadata(), picture.size
            if min(picture.size) < wanted:
                return None
        elif thumbnail.format == rawpy.ThumbFormat.JPEG:
            jpeg = io.BytesIO(thumbnail.data)
            opened: ImageFile.ImageFile = open_header(jpeg)
            if min(opened.size) < wanted or opened.width * opened.height > max_pixels:
                return None
            own_orientation, metadata = read_orientation(opened), read_metadata(opened)
            declared, whole = declared_colour(opened, jpeg), opened.size
            opened.draft(None, draft_size(opened.size, wanted))
            opened.load()
            picture = opened
        else:
            return None
    except Exception:  # without a usable preview, the sensor data is developed
        return None
    # Some cameras store the preview upright, some give it its own orientation tag, most do neither.
    if own_orientation != 1:
        orientation = own_orientation
    elif (picture.width >= picture.height) == (full[0] >= full[1]) and swaps_sides(orientation):
        orientation = 1
    picture = apply_orientation(to_rgb(picture, declared), orientation)
    if swaps_sides(orientation):
        whole = whole[1], whole[0]
    ratio, full_ratio = picture.width / picture.height, full[0] / full[1]
    if not 0.8 < ratio / full_ratio < 1.25:  # a crop, or a square thumbnail with bars
        return None
    return RawPicture(picture, *picture.size, metadata, whole)


def _of_preview(rawpy: Any, raw: Any) -> Metadata:
    """Read the metadata of a preview that was not used as the picture."""
    try:
        thumbnail = raw.extract_thumb()
        is_jpeg = thumbnail.format == rawpy.ThumbFormat.JPEG
        return read_metadata(open_header(io.BytesIO(thumbnail.data))) if is_jpeg else Metadata()
    except Exception:  # the preview is missing or corrupt
        return Metadata()


def _of_libraw(raw: Any) -> Metadata:
    """Read metadata from LibRaw. This unpacks the whole sensor, so it is only for files that were developed anyway."""
    try:
        lens = clean(raw.lens.model, NAME_LENGTH)
    except Exception:  # missing, or not supported by this rawpy
        lens = None
    try:
        moment: datetime = raw.other.timestamp  # local time
        taken_at = moment.replace(microsecond=0, tzinfo=None).isoformat() if moment.year > 1980 else None
    except Exception:  # missing or invalid
        taken_at = None
    return Metadata(taken_at=taken_at, lens=lens)
