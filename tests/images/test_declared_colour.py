"""Four patches stored in various colour spaces are decoded to the same four patches."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from clipkit.images.decoding import open_picture

from .make_files import SHARED, encoded, png_chunk

CASES = SHARED / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")

PATCHES = np.array([[200, 60, 50], [60, 190, 70], [50, 70, 190], [128, 128, 128]], np.uint8)
SIDE = 64

# Linear RGB to CIE XYZ under D65: sRGB from IEC 61966-2-1, Display P3 from SMPTE EG 432-1, BT.2020 from ITU-R BT.2020,
# Adobe RGB (1998) from its specification.
SRGB = np.array([[0.412456, 0.357576, 0.180438], [0.212673, 0.715152, 0.072175], [0.019334, 0.119192, 0.950304]])
P3 = np.array([[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0.0, 0.0451134, 1.0439444]])
BT2020 = np.array([[0.6369580, 0.1446169, 0.1688810], [0.2627002, 0.6779981, 0.0593017], [0.0, 0.0280727, 1.0609851]])
ADOBE = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])


def linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, with white at 203 cd/m2."""
    power = (light * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 for a display of 1,000 cd/m2 with white at 203: from display light to scene light to signal."""
    shown = light * 0.203
    luminance = shown @ BT2020[1]
    scene = shown * luminance[..., None] ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def bt2020(light: np.ndarray) -> np.ndarray:
    return np.where(light < 0.018053968, 4.5 * light, 1.099296826 * light**0.45 - 0.099296826)


def stored(to_xyz: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], patches: np.ndarray = PATCHES) -> np.ndarray:
    """Return the patches in a space of these primaries and this curve, in 0..1, (2 x SIDE, 2 x SIDE, 3)."""
    light = linear(patches / 255) @ (np.linalg.inv(to_xyz) @ SRGB).T
    values = encode(np.clip(light, 0, None)).reshape(2, 2, 3)
    return values.repeat(SIDE, axis=0).repeat(SIDE, axis=1)


def eight(values: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))


def png(values: np.ndarray, *chunks: bytes, bits: int = 8) -> bytes:
    """Return a PNG file of fractions, grey (h, w) or RGB (h, w, 3), with extra chunks after its header."""
    top, kind = (255, ">u1") if bits == 8 else (65535, ">u2")
    samples = (np.clip(values, 0, 1) * top + 0.5).astype(kind)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    colour_type = {2: 0, 3: {3: 2, 4: 6}.get(values.shape[-1], 0)}[values.ndim]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(chunks)
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def cicp(primaries: int, transfer: int) -> bytes:
    return png_chunk(b"cICP", bytes([primaries, transfer, 0, 1]))


def gamma(encoding: float) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", round(encoding * 100_000)))


def chromaticities(*values: float) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values)))


def icc(data: bytes) -> bytes:
    return png_chunk(b"iCCP", b"any\0\0" + zlib.compress(data))


def profile(
    to_xyz: np.ndarray | None, exponent: float, name: str = "sRGB IEC61966-2.1 lookalike", kind: bytes = b"RGB "
) -> bytes:
    """Return an ICC v2 profile: a display of these primaries (None: sRGB's) with a power-law curve, or grey."""
    bradford = np.array(
        [[1.047811, 0.022887, -0.050127], [0.029542, 0.990484, -0.017049], [-0.009235, 0.015044, 0.752132]]
    )
    columns = bradford @ (SRGB if to_xyz is None else to_xyz)

    def xyz(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + b"\0\0"
    words = name.encode("ascii") + b"\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(words)) + words + bytes(78)
    tags = {b"desc": desc + bytes(-len(desc) % 4), b"wtpt": xyz(np.array([0.9642, 1.0, 0.8249]))}
    if kind == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        tags |= {b"rXYZ": xyz(columns[:, 0]), b"gXYZ": xyz(columns[:, 1]), b"bXYZ": xyz(columns[:, 2])}
        tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    table, body = b"", b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data
    head = bytes(4) + b"lcms\x02\x10\0\0mntr" + kind + b"XYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    out = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(out)) + out[4:]


def assert_patches(source: bytes | Path, tolerance: int = 4, patches: np.ndarray = PATCHES, **options: int) -> None:
    image = np.asarray(open_picture(source, **options).image, np.int16)
    height, width = image.shape[:2]
    found = [image[y, x] for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    assert np.abs(np.array(found) - patches).max() <= tolerance, found


@needs_cases
@pytest.mark.parametrize(
    "name",
    ["k00_ref.png", "k04_linear_srgb_gimp.png", "k08_linear_srgb_gimp.tif", "k12_gama1.png", "k50_adobe_interop.jpg"],
)
def test_shared_cases(name: str) -> None:
    assert_patches(CASES / name, shortest_side=64)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "codes, to_xyz, encode",
    [
        ((12, 13), P3, srgb),
        ((9, 13), BT2020, srgb),
        ((9, 14), BT2020, bt2020),
        ((9, 16), BT2020, pq),
        ((9, 18), BT2020, hlg),
        ((12, 16), P3, pq),
        ((1, 8), SRGB, lambda light: light),
        ((1, 4), SRGB, lambda light: light ** (1 / 2.2)),
        ((1, 13), SRGB, srgb),
    ],
)
def test_png_cicp(codes: tuple[int, int], to_xyz: np.ndarray, encode: Callable, bits: int) -> None:
    data = png(stored(to_xyz, encode), cicp(*codes), bits=bits)
    # Eight bits are coarse in wide gamuts: one level there is several in sRGB.
    tolerance = 1 if bits == 16 else 6 if codes[0] == 9 else 4
    assert_patches(data, tolerance)
    assert_patches(data, tolerance, shortest_side=32)


def test_sixteen_bits_of_linear_light_keep_the_shadows() -> None:
    dark = np.array([[9, 3, 2], [3, 8, 4], [2, 3, 9], [6, 6, 6]], np.uint8)
    values = stored(SRGB, lambda light: light, dark)
    assert_patches(png(values, gamma(1.0), bits=16), 1, dark)
    opaque = np.concatenate([values, np.ones((*values.shape[:2], 1))], axis=2)
    assert_patches(png(opaque, gamma(1.0), bits=16), 1, dark)


def test_png_gamma_and_chromaticities() -> None:
    assert_patches(png(stored(SRGB, lambda light: light), gamma(1.0)))
    assert_patches(png(stored(SRGB, lambda light: light ** (1 / 1.8)), gamma(1 / 1.8)))
    assert_patches(png(stored(SRGB, srgb), gamma(0.45455)), 0)
    of_srgb = chromaticities(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    assert_patches(png(stored(SRGB, srgb), gamma(0.45455), of_srgb), 0)
    adobe = stored(ADOBE, lambda light: light ** (256 / 563))
    of_adobe = chromaticities(0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    assert_patches(png(adobe, of_adobe, gamma(256 / 563)))
    expected = PATCHES[:, :1].repeat(3, axis=1)
    assert_patches(png(stored(SRGB, lambda light: light, expected)[:, :, 0], gamma(1.0)), patches=expected)
    assert_patches(png(stored(SRGB, lambda light: light, expected)[:, :, 0], gamma(1.0), bits=16), patches=expected)


def test_png_declarations_take_precedence_as_in_the_standard() -> None:
    wrong = icc(profile(BT2020, 1.0))
    assert_patches(png(stored(P3, srgb), cicp(12, 13), wrong, gamma(1.0)))
    assert_patches(png(stored(P3, lambda light: light ** (1 / 2.2)), icc(profile(P3, 2.2)), gamma(1.0)))
    assert_patches(png(stored(SRGB, srgb), png_chunk(b"sRGB", b"\0"), gamma(1.0)), 0)
    # Invalid declarations are ignored.
    assert_patches(png(stored(SRGB, srgb), cicp(77, 99)), 0)
    assert_patches(png(stored(SRGB, srgb), gamma(0)), 0)
    assert_patches(png(stored(SRGB, srgb), chromaticities(*[0.3127] * 8)), 0)
    assert_patches(png(stored(SRGB, srgb), png_chunk(b"gAMA", b"\0"), png_chunk(b"cHRM", b"\0\0")), 0)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_profiles_are_compared_by_effect_not_by_name(format_name: str) -> None:
    options = {"lossless": True} if format_name == "WEBP" else {"quality": 100} if format_name[0] in "JA" else {}
    for name in ("GIMP built-in Linear sRGB", "sRGB", "my monitor"):
        for to_xyz, exponent in ((SRGB, 1.0), (P3, 1.8)):
            image = eight(stored(to_xyz, lambda light, exponent=exponent: light ** (1 / exponent)))
            assert_patches(encoded(image, format_name, icc_profile=profile(to_xyz, exponent, name), **options))
    lcms = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    renamed = lcms.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    for same in (lcms, renamed):
        assert_patches(encoded(eight(stored(SRGB, srgb)), format_name, icc_profile=same, **options))
    assert_patches(png(stored(SRGB, srgb), icc(renamed)), 0)


def test_grey_profiles_are_used_at_any_depth_and_with_alpha() -> None:
    expected = PATCHES[:, :1].repeat(3, axis=1)
    light = stored(SRGB, lambda light: light, expected)[:, :, 0]
    grey = profile(None, 1.0, "Gray Gamma 1.0", b"GRAY")
    for bits in (8, 16):
        assert_patches(png(light, icc(grey), bits=bits), patches=expected)
    assert_patches(encoded(eight(light), "TIFF", icc_profile=grey), patches=expected)
    assert_patches(encoded(eight(light), "JPEG", icc_profile=grey, quality=100), patches=expected)
    assert_patches(encoded(eight(light), "PNG", icc_profile=profile(None, 1.0)), patches=expected)  # for RGB, on grey
    with_alpha = eight(light).convert("LA")
    assert_patches(encoded(with_alpha, "PNG", icc_profile=grey), patches=expected)
    # A grey profile does not apply to RGB.
    assert_patches(encoded(eight(stored(SRGB, srgb)), "PNG", icc_profile=grey), 0)


def test_the_background_of_transparency_is_not_converted() -> None:
    clear = Image.new("RGBA", (32, 32), (200, 60, 50, 0))
    for chunk in (gamma(1.0), icc(profile(None, 1.0)), cicp(9, 16)):
        data = encoded(clear, "PNG")
        assert open_picture(data[:33] + chunk + data[33:]).image.getpixel((9, 9)) == (128, 128, 128)


def test_exif_declares_adobe_rgb() -> None:
    adobe, plain = eight(stored(ADOBE, lambda light: light ** (256 / 563))), eight(stored(SRGB, srgb))

    def exif(space: int, index: bytes | str | None) -> bytes:
        out = Image.Exif()
        out[0x8769] = {0xA001: space} | ({} if index is None else {0xA005: {1: index}})
        return out.tobytes()

    for format_name in ("JPEG", "PNG", "WEBP"):
        options = {"quality": 100} if format_name == "JPEG" else {"lossless": True} if format_name == "WEBP" else {}
        assert_patches(encoded(adobe, format_name, exif=exif(0xFFFF, "R03"), **options))
        assert_patches(encoded(adobe, format_name, exif=exif(2, None), **options))
        assert_patches(encoded(plain, format_name, exif=exif(0xFFFF, "R98"), **options))
        assert_patches(encoded(plain, format_name, exif=exif(0xFFFF, None), **options))
        assert_patches(encoded(plain, format_name, exif=exif(1, "R03"), **options))
        # An ICC profile takes precedence.
        linear_light = eight(stored(SRGB, lambda light: light))
        profiled = encoded(linear_light, format_name, exif=exif(0xFFFF, "R03"), icc_profile=profile(None, 1), **options)
        assert_patches(profiled)


def heif(image: Image.Image, primaries: int, transfer: int) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(
        buffer,
        quality=-1,
        chroma=444,
        save_nclx_profile=True,
        color_primaries=primaries,
        transfer_characteristics=transfer,
        matrix_coefficients=1,
        full_range_flag=1,
    )
    assert b"nclx" + struct.pack(">HH", primaries, transfer) in buffer.getvalue()
    return buffer.getvalue()


def avif(image: Image.Image, primaries: int, transfer: int) -> bytes:
    data = encoded(image, "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


@pytest.mark.parametrize("make", [heif, avif])
@pytest.mark.parametrize(
    "codes, to_xyz, encode",
    [
        ((12, 13), P3, srgb),
        ((9, 13), BT2020, srgb),
        ((9, 16), BT2020, pq),
        ((9, 18), BT2020, hlg),
        ((9, 14), BT2020, bt2020),
        ((1, 8), SRGB, lambda light: light),
        ((1, 1), SRGB, srgb),
        ((2, 2), SRGB, srgb),
        ((1, 13), SRGB, srgb),
    ],
)
def test_heif_and_avif_nclx(make: Callable, codes: tuple[int, int], to_xyz: np.ndarray, encode: Callable) -> None:
    assert_patches(make(eight(stored(to_xyz, encode)), *codes), 8 if codes[0] == 9 else 5)


def test_hdr_highlights_are_rolled_off_not_clipped() -> None:
    nits = np.array([50, 203, 500, 1000, 2000])
    values = pq(nits / 203)[None, :, None].repeat(3, axis=2).repeat(8, axis=0).repeat(8, axis=1)
    shown = np.asarray(open_picture(png(values, cicp(9, 16), bits=16)).image)[4, 4::8, 0].astype(int)
    assert (np.diff(shown) > 3).all() and shown[-1] >= 250
    assert abs(shown[0] - round(float(srgb(np.array(50 / 203))) * 255)) <= 2


def test_jpeg2000_profile() -> None:
    data = encoded(eight(stored(SRGB, lambda light: light)), "JPEG2000")
    at = data.index(b"colr") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    body = b"colr\2\0\0" + profile(None, 1.0)
    header = data.index(b"jp2h") - 4
    (whole,) = struct.unpack(">I", data[header : header + 4])
    grown = struct.pack(">I", whole + len(body) + 4 - length)
    data = data[:header] + grown + data[header + 4 : at] + struct.pack(">I", len(body) + 4) + body + data[at + length :]
    assert_patches(data)
    assert_patches(data, shortest_side=32)
