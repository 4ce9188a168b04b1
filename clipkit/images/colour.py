"""Any Pillow mode to 8-bit RGB in sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

GROUND = (128, 128, 128)
"""What shows through transparent pixels. Mid-grey, because transparent pictures are mostly logos, icons and cut-outs:
on white the white ones vanish, on black the black ones, on grey neither; and grey is near CLIP's mean, so that after
normalisation the ground adds next to nothing to the embedding."""

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded picture of any Pillow mode as "RGB".

    Transparency (alpha, palettes and colour keys) is laid on `GROUND`. 16 and 32-bit greyscale is scaled to 8 bits
    from the smallest usual depth (8, 10, 12, 14 or 16 bits) that holds its values, floats from 0..1, from 0..255 or
    else from their own range. CMYK, Lab and RGB with an embedded ICC profile other than sRGB go through LittleCMS;
    a profile that cannot be used is ignored. High dynamic range is not tone-mapped.
    """
    profile = image.info.get("icc_profile")
    if image.mode in _DEEP_MODES:
        return _grey(_from_integers(np.asarray(image)))
    if image.mode == "F":
        return _grey(_from_floats(np.asarray(image)))
    if image.mode == "LAB":
        return _through_profile(image, None)
    if image.mode == "CMYK":
        return _through_profile(image, profile) if profile else image.convert("RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        flat = Image.new("RGB", with_alpha.size, GROUND)
        flat.paste(with_alpha, mask=with_alpha.getchannel("A"))
        image = flat
    elif image.mode != "RGB":
        image = image.convert("RGB")
    return _through_profile(image, profile) if profile else image


def _grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels).convert("RGB")


def _from_integers(values: np.ndarray) -> np.ndarray:
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 65535:
        return _stretch(values, lowest, highest)
    # Scanners and microscopes store 12 bits in 16: scaled from 65535 they would come out black.
    bits = next(depth for depth in (8, 10, 12, 14, 16) if highest < 1 << depth)
    return (values >> (bits - 8)).astype(np.uint8)


def _from_floats(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.all():
        values = np.where(finite, values, 0)
    lowest, highest = float(values.min()), float(values.max())
    if lowest >= 0 and highest <= 1:
        lowest, highest = 0.0, 1.0
    elif lowest >= 0 and highest <= 255:
        lowest, highest = 0.0, 255.0
    return _stretch(values, lowest, highest)


def _stretch(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    if highest <= lowest:
        return np.full(values.shape, 128, np.uint8)
    return np.clip((values.astype(np.float64) - lowest) * (255 / (highest - lowest)) + 0.5, 0, 255).astype(np.uint8)


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB by an ICC profile (None: Lab); where the profile is of no use, as if there were none."""
    try:
        transform = _transform(profile, image.mode)
        if transform is not None:
            converted = ImageCms.applyTransform(image, transform)
            if converted is not None:
                return converted
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        pass
    return image.convert("RGB") if image.mode != "LAB" else image.getchannel("L").convert("RGB")


@lru_cache(maxsize=32)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform to sRGB; None where the profile is sRGB already or is meant for another kind of pixels."""
    if profile is None:
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    else:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != mode:
            return None
        if "srgb" in (source.profile.profile_description or "").lower():
            return None
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
