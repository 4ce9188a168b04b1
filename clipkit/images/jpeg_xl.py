"""Read JPEG XL files (ISO/IEC 18181), decoded by pylibjxl if it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from clipkit.images.colour_space import ColourSpace, from_chromaticities, from_cicp
from clipkit.images.unsupported import Unsupported

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"

_MAX_BOXES = 1024
_GREY, _XYB = 1, 2
# JPEG XL uses the code points of ITU-T H.273 where it has them.
_P3, _CUSTOM, _DCI_WHITE = 11, 2, 11


@dataclass(frozen=True)
class Header:
    """The header of a codestream.

    `width`, `height`: as stored, before `orientation` (numbered as in EXIF) is applied.
    `space`: None if an ICC profile replaces it.
    """

    width: int
    height: int
    orientation: int
    space: ColourSpace | None


class JpegXlFile(ImageFile.ImageFile):
    """A JPEG XL file. Its decoder returns it upright, with its colour in `info["colour_space"]`."""

    format = "JXL"
    format_description = "JPEG XL"

    def _open(self) -> None:
        assert self.fp is not None
        header = read_header(self.fp)
        turned = header.orientation >= 5
        self._size = (header.height, header.width) if turned else (header.width, header.height)
        self._mode = "RGB"  # until it is loaded
        self.tile = []
        if header.space is not None:
            self.info["colour_space"] = header.space

    def load(self) -> Any:
        """Decode the first frame. Raises `Unsupported`, or what libjxl raises on corrupt data."""
        if self._im is None:
            assert self.fp is not None
            self.fp.seek(0)
            picture = self._decoded(self.fp.read())
            self._im, self._mode = picture.im, picture.mode
        return Image.Image.load(self)

    def _decoded(self, data: bytes) -> Image.Image:
        try:
            import pylibjxl
        except ImportError as error:
            raise Unsupported('reading JPEG XL files needs pylibjxl: pip install "clipkit[formats]"') from error
        array, beside = pylibjxl.decode(data, metadata=True)
        if array.dtype != np.uint8 or array.shape[:2] != (self.height, self.width):
            raise Unsupported("clipkit does not read this variant of JPEG XL")
        if "colour_space" not in self.info:
            if not beside.get("icc"):
                raise Unsupported("the JPEG XL file does not declare a colour space that clipkit knows")
            self.info["icc_profile"] = bytes(beside["icc"])
        self.info |= {name: bytes(beside[name]) for name in ("exif", "xmp") if beside.get(name)}
        modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
        channels = array.shape[2] if array.ndim == 3 else 1
        if channels not in modes:
            raise Unsupported(f"clipkit does not read JPEG XL files with {channels} channels")
        return Image.frombytes(modes[channels], self.size, np.ascontiguousarray(array).tobytes())


def read_header(file: IO[bytes]) -> Header:
    """Read size, orientation and colour from the codestream header. Raises EOFError or ValueError."""
    bits = _Bits(_codestream(file))
    if bits.take(16) != 0x0AFF:
        raise ValueError("it has no JPEG XL codestream")
    width, height = _dimensions(bits)
    orientation = 1
    if bits.flag():  # all default: 8 bits, sRGB
        return Header(width, height, orientation, ColourSpace())
    if bits.flag():  # extra fields
        orientation = 1 + bits.take(3)
        if bits.flag():  # intrinsic size
            _dimensions(bits)
        if bits.flag():
            _skip_preview(bits)
        if bits.flag():
            _skip_animation(bits)
    _skip_bit_depth(bits)
    bits.flag()  # whether 16-bit buffers suffice
    for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12))):
        _skip_extra_channel(bits)
    bits.flag()  # XYB, which the decoder converts to the space that follows
    return Header(width, height, orientation, _space(bits))


def _space(bits: _Bits) -> ColourSpace | None:
    """Return the space of a numeric colour encoding; None if it is not numeric, or unknown."""
    if bits.flag():  # all default
        return ColourSpace()
    by_profile, kind = bits.flag(), bits.enumerated()
    if by_profile or kind == _XYB:
        return None
    white_code = bits.enumerated()
    white = {1: (0.3127, 0.3290), 10: (1 / 3, 1 / 3), _DCI_WHITE: (0.314, 0.351)}.get(white_code)
    if white_code == _CUSTOM:
        white = bits.chromaticity()
    primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
    if kind != _GREY:
        code = bits.enumerated()
        if code == _CUSTOM:
            primaries = bits.chromaticity(), bits.chromaticity(), bits.chromaticity()
        elif (named := from_cicp(code, 13)) is not None:
            primaries = named.primaries[0], named.primaries[1], named.primaries[2]
        else:
            return None
    if bits.flag():
        exponent = bits.take(24) / 10_000_000
        transfer: str | float | None = 1 / exponent if exponent > 0 else None
    else:
        code = bits.enumerated()
        curve = from_cicp(9, code)  # with BT.2020 primaries, so that the BT.709 curve is not replaced by sRGB's
        transfer = curve.transfer if curve is not None and code != 2 else None
    if white is None or transfer is None:
        return None
    return from_chromaticities(white, *primaries, transfer=transfer)


def _dimensions(bits: _Bits) -> tuple[int, int]:
    small = bits.flag()

    def side() -> int:
        return 8 * (1 + bits.take(5)) if small else bits.choice((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return side(), height
    up, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * up // down, height


def _skip_preview(bits: _Bits) -> None:
    eighths = bits.flag()

    sizes = ((16, 0), (32, 0), (1, 5), (33, 9)) if eighths else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choice(*sizes)
    if bits.take(3) == 0:
        bits.choice(*sizes)


def _skip_animation(bits: _Bits) -> None:
    bits.choice((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.choice((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.choice((0, 0), (0, 3), (0, 16), (0, 32))
    bits.flag()


def _skip_bit_depth(bits: _Bits) -> None:
    if bits.flag():  # floating point
        bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        bits.choice((8, 0), (10, 0), (12, 0), (1, 6))


def _skip_extra_channel(bits: _Bits) -> None:
    if bits.flag():  # all default: alpha of 8 bits
        return
    kind = bits.enumerated()
    _skip_bit_depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.choice((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.take(8)  # a character of its name
    if kind == 0:
        bits.flag()
    elif kind == 2:
        bits.take(64)
    elif kind == 5:
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))


class _Bits:
    """The bits of a codestream, least significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError("the header ends too early")
        found = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return found

    def flag(self) -> bool:
        return bool(self.take(1))

    def choice(self, *kinds: tuple[int, int]) -> int:
        """Read a U32: a selector of two bits picks an offset and how many bits to add to it."""
        offset, count = kinds[self.take(2)]
        return offset + self.take(count)

    def enumerated(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))

    def chromaticity(self) -> tuple[float, float]:
        x, y = (self.choice((0, 19), (524288, 19), (1048576, 20), (2097152, 21)) for _ in range(2))
        return _signed(x) / 1_000_000, _signed(y) / 1_000_000


def _signed(value: int) -> int:
    return -(value + 1) // 2 if value & 1 else value // 2


def _codestream(file: IO[bytes]) -> bytes:
    """Return the first bytes of the codestream, from inside its box if the file is a container."""
    file.seek(0)
    if file.read(2) == CODESTREAM:
        file.seek(0)
        return file.read(4096)
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        length, start = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] in (b"jxlc", b"jxlp"):
            file.seek(position + start + (4 if head[4:8] == b"jxlp" else 0))
            return file.read(4096)
        if length < start:
            break
        position += length
    raise EOFError("the file ends before its codestream")
