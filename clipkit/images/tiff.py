"""Read TIFF files: find the page with the picture, and decode layouts that Pillow lacks or decodes wrongly."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from clipkit.images.colour import levels_of_floats, levels_of_integers, to_rgb
from clipkit.images.unsupported import Unsupported

logging.getLogger("tifffile").addHandler(logging.NullHandler())

_Directory = TiffImagePlugin.ImageFileDirectory_v2

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _COLOUR_MAP, _SUB_DIRECTORIES, _INK_SET = 274, 277, 284, 320, 330, 332
_EXTRA, _FORMAT, _SUBSAMPLING, _XMP, _ICC, _NO_DATA, _DNG_VERSION = 338, 339, 530, 700, 34675, 42113, 50706
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_ASSOCIATED, _UNASSOCIATED = 1, 2
_COLOUR_CHANNELS = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3, _PALETTE: 1, _SEPARATED: 4, _LAB: 3}

_MAX_DIRECTORIES, _MAX_SAMPLES = 64, 32
_MAX_THUMBNAIL = 512
# A small first page is a thumbnail if another page is this many times as wide and its shape agrees this closely.
_ENLARGEMENT, _SHAPE = 4, 0.03


def open_tiff(file: IO[bytes], name: str = "") -> ImageFile.ImageFile:
    """Open the page of a TIFF file that holds its picture, without decoding it.

    If the first page is only a thumbnail, it is skipped, but its EXIF data is used. Layouts that Pillow lacks or
    decodes wrongly are decoded by tifffile.
    """
    first = _directory(file)
    picture = _picture(file, first)
    stream: IO[bytes] = file if picture is first else io.BufferedReader(_StartingAt(file, _offset(picture)))
    image = _opened(stream, picture, name)
    if picture is not first:
        _lend_exif(image, file, first, picture)
    return image


def _opened(stream: IO[bytes], tags: _Directory, name: str) -> ImageFile.ImageFile:
    if _pillow_is_right(tags):
        try:
            stream.seek(0)
            return TiffImagePlugin.TiffImageFile(stream, name)
        except SyntaxError as error:
            if "unknown pixel mode" not in str(error):
                raise
    stream.seek(0)
    return DeepTiffFile(stream, name)


def _pillow_is_right(tags: _Directory) -> bool:
    """Return whether Pillow decodes this layout correctly; determined by testing all of them."""
    photometric, samples, planar = tags.get(_PHOTOMETRIC, 0), tags.get(_SAMPLES, 1), tags.get(_PLANAR, 1)
    bits = set(tags.get(_BITS, (1,)))
    if len(bits) != 1 or not set(tags.get(_FORMAT, (1,))) <= {1, 4}:
        return False
    depth = bits.pop()
    if samples == 1:
        return depth <= 8 or (depth in (12, 16) and photometric == _MIN_IS_BLACK)
    if depth not in (8, 16) or (planar != 1 and (depth, photometric, samples) != (8, _RGB, 3)):
        return False
    if photometric == _RGB:
        return samples in (3, 4)
    if photometric == _SEPARATED:
        return samples == 4 and tags.get(_INK_SET, 1) == 1
    if photometric == _YCBCR:
        # Outside JPEG, Pillow ignores chroma subsampling.
        return depth == 8 and (tags.get(_COMPRESSION) in (6, 7) or tuple(tags.get(_SUBSAMPLING, (2, 2))) == (1, 1))
    return depth == 8 and (photometric, samples) in ((_MIN_IS_BLACK, 2), (_PALETTE, 2), (_LAB, 3))


class DeepTiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF page that tifffile decodes, to 8 bits per channel."""

    def _setup(self) -> None:
        tags = self.tag_v2
        self._size = int(tags[_WIDTH]), int(tags[_HEIGHT])
        self._mode = "RGB"  # until it is loaded
        self.tile = []
        if _ICC in tags:
            self.info["icc_profile"] = tags[_ICC]

    def load(self) -> Any:
        """Decode the page. Raises `Unsupported`, `EOFError` if it is truncated, or what the codecs raise."""
        if self._im is None:
            assert self.fp is not None
            picture = _decoded(self.fp, self.tag_v2)
            if picture.mode == "CMYK" or "alpha" in picture.info:
                alpha = picture.info.get("alpha")
                picture = to_rgb(picture, self.info.pop("icc_profile", None))
                if alpha is not None:
                    picture.putalpha(alpha)
            self._im, self._mode = picture.im, picture.mode
        return Image.Image.load(self)


def _decoded(stream: IO[bytes], tags: _Directory) -> Image.Image:
    """Decode with tifffile to "L", "LA", "La", "RGB", "RGBA", "RGBa", "LAB" or "CMYK" (its alpha in `info`)."""
    photometric, samples = tags.get(_PHOTOMETRIC, 0), tags.get(_SAMPLES, 1)
    channels = _COLOUR_CHANNELS.get(photometric, 0)
    if not 0 < channels <= samples <= _MAX_SAMPLES or (photometric == _SEPARATED and tags.get(_INK_SET, 1) != 1):
        raise Unsupported(_layout(tags))
    array = _samples(stream, tags)
    extras = tuple(tags.get(_EXTRA, ()))[: array.shape[2] - channels]
    kind, at = next(((kind, i) for i, kind in enumerate(extras) if kind in (_ASSOCIATED, _UNASSOCIATED)), (0, 0))
    alpha = _eight_bits(array[:, :, channels + at], tags) if kind else None
    if photometric == _LAB:
        colour = _lab(array[:, :, :channels], tags)
    elif photometric == _PALETTE:
        colours = np.asarray(tags[_COLOUR_MAP], np.uint16).reshape(3, -1) >> 8
        colour = colours.astype(np.uint8).T[array[:, :, 0]]
    else:
        colour = _eight_bits(array[:, :, :channels], tags)
        if photometric == _MIN_IS_WHITE:
            colour = 255 - colour
    mode = "LAB" if photometric == _LAB else {1: "L", 3: "RGB", 4: "CMYK"}[colour.shape[2]]
    if alpha is None or mode == "LAB":
        return _image(mode, colour)
    if mode == "CMYK":
        picture = _image(mode, colour)
        picture.info["alpha"] = _image("L", alpha)
        return picture
    return _image(mode + ("a" if kind == _ASSOCIATED else "A"), np.dstack([colour, alpha]))


def _samples(stream: IO[bytes], tags: _Directory) -> np.ndarray:
    """Return the page's samples as stored, (height, width, samples)."""
    import tifffile

    stream.seek(0, 2)
    size = stream.tell()
    for starts, lengths in ((273, 279), (324, 325)):
        pairs = zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)
        if any(start + length > size for start, length in pairs):
            raise EOFError("its strips extend past the end of the truncated file")
    stream.seek(0)
    try:
        with tifffile.TiffFile(stream, name="picture") as tiff:  # without a name it would ask the stream for one
            page: Any = tiff.pages.first
            axes, array = page.axes, page.asarray(maxworkers=1)
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" in str(error):
            install = 'reading its compression needs imagecodecs: pip install "clipkit[formats]"'
            raise Unsupported(f"{_layout(tags)}; {install}") from error
        raise Unsupported(_layout(tags)) from error
    if axes == "YX":
        return array[:, :, None]
    if axes == "SYX":
        return np.moveaxis(array, 0, 2)
    if axes != "YXS":
        raise Unsupported(_layout(tags))
    return array


def _eight_bits(values: np.ndarray, tags: _Directory) -> np.ndarray:
    if values.dtype.kind not in "uif":
        raise Unsupported(_layout(tags))
    no_data = tags.get(_NO_DATA)
    if no_data is not None and values.dtype.kind != "u":
        with contextlib.suppress(ValueError):  # not a number
            values = np.where(values == float(str(no_data).strip("\0 ")), np.nan, values)
    levels = levels_of_floats(values) if values.dtype.kind == "f" else levels_of_integers(values)
    levels += 0.5
    return levels.astype(np.uint8)


def _lab(values: np.ndarray, tags: _Directory) -> np.ndarray:
    """Return 8-bit CIE L*a*b*; a* and b* are signed, whatever type the file declares."""
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        raise Unsupported(_layout(tags))
    if values.dtype.itemsize == 1:
        return values
    lightness = np.round(values[:, :, :1] / 257).astype(np.uint8)
    return np.dstack([lightness, ((values[:, :, 1:].astype(np.int32) + 128) >> 8).astype(np.uint8)])


def _image(mode: str, values: np.ndarray) -> Image.Image:
    return Image.frombytes(mode, (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())


def _layout(tags: _Directory) -> str:
    bits = ", ".join(str(depth) for depth in sorted(set(tags.get(_BITS, (1,)))))
    photometric, samples = tags.get(_PHOTOMETRIC, 0), tags.get(_SAMPLES, 1)
    return (
        "clipkit does not read this TIFF layout (photometric interpretation "
        f"{photometric}, {samples} samples of {bits} bits, compression {tags.get(_COMPRESSION, 1)})"
    )


def _directory(file: IO[bytes], offset: int | None = None) -> _Directory:
    """Read the directory at `offset`, or the first one."""
    file.seek(0)
    head = file.read(8)
    if head[:4] == b"MM\0+":
        raise Unsupported("clipkit does not read big-endian BigTIFF files")
    if head[2:3] == b"+":
        head += file.read(8)
    directory = _Directory(head)
    file.seek(directory.next if offset is None else offset)
    directory.load(file)
    return directory


def _offset(directory: _Directory) -> int:
    return int(directory._offset or 0)


def _picture(file: IO[bytes], first: _Directory) -> _Directory:
    """Return the directory of the picture.

    This is the first one, unless it is marked as reduced, or is small and has the shape of a much larger page. If any
    directory holds sensor data, the first one is returned, and LibRaw decodes the file.
    """
    reduced = _is_reduced(first)
    if not reduced and (max(_size(first)) > _MAX_THUMBNAIL or first.get(_SUBFILE, 0) or _DNG_VERSION in first):
        return first
    others = list(_others(file, first))
    if any(map(holds_sensor_data, [first, *others])):
        return first
    pages = [page for page in others if not _is_reduced(page) and page.get(_PHOTOMETRIC) != 4 and min(_size(page)) > 0]
    if not reduced:
        pages = [page for page in pages if _enlarges(page, first)]
    return max(pages, key=lambda page: _size(page)[0] * _size(page)[1], default=first)


def holds_sensor_data(tags: Any) -> bool:
    """Return whether a directory belongs to a RAW file: DNG, a colour filter array, or a camera's own compression."""
    mosaic, packed = tags.get(_PHOTOMETRIC) in (32803, 34892), tags.get(_COMPRESSION) in (34713, 32767, 32770, 65535)
    return _DNG_VERSION in tags or mosaic or packed


def _others(file: IO[bytes], first: _Directory) -> Iterator[_Directory]:
    """Yield the directories of the pages after the first, then the first page's subdirectories."""
    seen, offset = {0, _offset(first)}, first.next
    waiting = _sub_directories(file, first)
    while len(seen) < _MAX_DIRECTORIES:
        if offset in seen:
            offset = next((start for start in waiting if start not in seen), 0)
            if offset == 0:
                return
        seen.add(offset)
        try:
            found = _directory(file, offset)
        except Exception:  # a corrupt directory is not a picture
            offset = 0
            continue
        if _WIDTH in found and _HEIGHT in found:
            yield found
        offset = found.next


def _sub_directories(file: IO[bytes], first: _Directory) -> tuple[int, ...]:
    if not first._bigtiff:
        found = first.get(_SUB_DIRECTORIES, ())
        return tuple(found) if isinstance(found, tuple) else (found,)
    import tifffile  # Pillow does not know BigTIFF's data type for them

    file.seek(0)
    with tifffile.TiffFile(file, name="picture") as tiff:
        page: Any = tiff.pages.first
        return tuple(page.subifds or ())


def _is_reduced(tags: _Directory) -> bool:
    return bool(int(tags.get(_SUBFILE, 0)) & 1) or tags.get(_OLD_SUBFILE) == 2


def _size(tags: _Directory) -> tuple[int, int]:
    return int(tags.get(_WIDTH, 0)), int(tags.get(_HEIGHT, 0))


def _enlarges(page: _Directory, small: _Directory) -> bool:
    (width, height), (small_width, small_height) = _size(page), _size(small)
    same_shape = abs(width * small_height / max(1, height * small_width) - 1) < _SHAPE
    return same_shape and width >= _ENLARGEMENT * small_width


def _lend_exif(image: ImageFile.ImageFile, file: IO[bytes], first: _Directory, picture: _Directory) -> None:
    """Give the picture the first directory's EXIF data, and its orientation and profile if the picture has none."""
    exif = Image.Exif()
    try:
        exif.bigtiff, exif.endian = first._bigtiff, first._endian
        exif.load_from_fp(file, _offset(first))
        if _ORIENTATION in picture:
            exif[_ORIENTATION] = picture[_ORIENTATION]
        for part in (0x8769, 0x8825):
            exif.get_ifd(part)
        exif.bigtiff = False  # from here on it is written as EXIF, which has no BigTIFF variant
        data = exif.tobytes()
        Image.Exif().load(data)
        image.info["exif"] = data
    except Exception:  # on corrupt EXIF data, Pillow raises almost anything
        pass
    for tag, name in ((_ICC, "icc_profile"), (_XMP, "xmp")):
        if tag in first:
            image.info.setdefault(name, first[tag])


class _StartingAt(io.RawIOBase):
    """A TIFF file whose header is patched to point at another of its directories."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        self._file, self._position = file, 0
        file.seek(0)
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:3] == b"+"
        self._head = head[:8] + struct.pack(order + "Q", offset) if big else head[:4] + struct.pack(order + "I", offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        start = {0: 0, 1: self._position, 2: self._file.seek(0, 2) if whence == 2 else 0}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._position)
        data = bytearray(self._file.read(len(buffer)))
        if self._position < len(self._head):
            patch = self._head[self._position : self._position + len(data)]
            data[: len(patch)] = patch
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
