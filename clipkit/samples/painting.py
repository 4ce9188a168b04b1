"""Render scenes of the sample world: one of sixteen backgrounds drawn with shapes, and sprites pasted over it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache, lru_cache

from PIL import Image, ImageDraw, ImageEnhance

from clipkit.samples.world import WORLD, Scene, Setting

TILE, COLUMNS = 128, 12
RGB = tuple[int, int, int]

Alteration = Callable[[int, Image.Image], Image.Image]
"""A function of a thing's number in the scene and its sprite, square RGBA, to a sprite of the same size and mode."""


def paint(scene: Scene, size: int = 64, alter: Alteration | None = None) -> Image.Image:
    """Render a scene, deterministically, as an RGB image of (size, size) pixels.

    `alter` is applied to each sprite before it is mirrored, rotated and pasted.
    """
    canvas = paint_setting(scene.setting, scene.seed, size)
    for number, placed in enumerate(scene.placed):
        side = max(4, round(placed.width * size))
        sprite = sprite_of(placed.thing.index, _cached_side(side))
        if alter is not None:
            sprite = alter(number, sprite)
        if placed.mirrored:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        sprite = sprite.rotate(placed.rotation, Image.Resampling.BICUBIC).resize(
            (side, side), Image.Resampling.BILINEAR
        )
        canvas.paste(sprite, (round(placed.x * size - side / 2), round(placed.y * size - side / 2)), sprite)
    return ImageEnhance.Brightness(canvas).enhance(random.Random(scene.seed).uniform(0.9, 1.08))


def paint_setting(setting: Setting, seed: int, size: int) -> Image.Image:
    """Render a background alone, RGB, (size, size), at twice the size and downsampled for smooth edges."""
    big = 2 * size
    image = Image.new("RGB", (big, big))
    _SETTINGS[setting.name](_Brush(image, random.Random(seed)))
    return image.resize((size, size), Image.Resampling.BOX)


def _cached_side(side: int) -> int:
    """Round up to a multiple of 16, at most the sheet's tile size, so that few sizes of a sprite are cached."""
    return min(TILE, -(-side // 16) * 16)


@cache
def _sheet() -> Image.Image:
    return Image.open(WORLD / "sprites.webp").convert("RGBA")


@lru_cache(maxsize=1024)
def sprite_of(index: int, side: int) -> Image.Image:
    """Return the sprite of a thing, RGBA, (side, side) pixels."""
    x, y = index % COLUMNS * TILE, index // COLUMNS * TILE
    return _sheet().crop((x, y, x + TILE, y + TILE)).resize((side, side), Image.Resampling.BOX)


class _Brush:
    """Drawing primitives in fractions of the side, with colours that vary slightly from image to image."""

    def __init__(self, image: Image.Image, rng: random.Random) -> None:
        self.image, self.rng, self.side = image, rng, image.width
        self.draw = ImageDraw.Draw(image)
        self.shift = [rng.randint(-10, 10) for _ in range(3)]

    def colour(self, rgb: RGB) -> RGB:
        r, g, b = (max(0, min(255, c + s + self.rng.randint(-4, 4))) for c, s in zip(rgb, self.shift, strict=True))
        return r, g, b

    def gradient(self, top: RGB, bottom: RGB, start: float = 0.0, end: float = 1.0) -> None:
        top, bottom = self.colour(top), self.colour(bottom)
        y0, y1 = round(start * self.side), round(end * self.side)
        ramp = Image.linear_gradient("L").resize((self.side, max(1, y1 - y0)))
        band = Image.composite(Image.new("RGB", ramp.size, bottom), Image.new("RGB", ramp.size, top), ramp)
        self.image.paste(band, (0, y0))

    def polygon(self, points: list[tuple[float, float]], rgb: RGB) -> None:
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], self.colour(rgb))

    def disc(self, x: float, y: float, r: float, rgb: RGB) -> None:
        s = self.side
        self.draw.ellipse(((x - r) * s, (y - r) * s, (x + r) * s, (y + r) * s), self.colour(rgb))

    def box(self, x0: float, y0: float, x1: float, y1: float, rgb: RGB) -> None:
        s = self.side
        self.draw.rectangle((x0 * s, y0 * s, x1 * s, y1 * s), self.colour(rgb))

    def line(self, points: list[tuple[float, float]], width: float, rgb: RGB) -> None:
        s = self.side
        self.draw.line([(x * s, y * s) for x, y in points], self.colour(rgb), max(1, round(width * s)))

    def wave(self, level: float, height: float, rgb: RGB) -> None:
        """Fill everything below a wavy line."""
        phase, turns = self.rng.uniform(0, 6.3), self.rng.uniform(0.8, 2.2)
        top = [(i / 24, level + height * math.sin(phase + turns * 6.3 * i / 24)) for i in range(25)]
        self.polygon([*top, (1, 1), (0, 1)], rgb)


def _beach(b: _Brush) -> None:
    b.gradient((125, 200, 245), (200, 235, 250), 0, 0.4)
    b.gradient((30, 140, 190), (80, 195, 210), 0.36, 0.62)
    b.wave(b.rng.uniform(0.54, 0.6), 0.02, (240, 245, 240))
    b.wave(b.rng.uniform(0.58, 0.64), 0.02, (238, 214, 160))


def _ocean(b: _Brush) -> None:
    b.gradient((60, 170, 215), (5, 60, 120))
    for _ in range(9):
        y, x = b.rng.uniform(0.05, 0.95), b.rng.uniform(-0.1, 0.8)
        b.line([(x + i * 0.05, y + (0.015 if i % 2 else -0.015)) for i in range(6)], 0.014, (110, 200, 230))
    for _ in range(6):
        b.disc(b.rng.random(), b.rng.random(), b.rng.uniform(0.01, 0.025), (170, 225, 240))


def _forest(b: _Brush) -> None:
    b.gradient((150, 200, 170), (90, 150, 90), 0, 0.7)
    b.box(0, 0.68, 1, 1, (70, 95, 45))
    for i in range(9):
        x, y, w = i / 8 + b.rng.uniform(-0.05, 0.05), b.rng.uniform(0.68, 0.8), b.rng.uniform(0.09, 0.14)
        b.box(x - 0.015, y - 0.08, x + 0.015, y, (95, 65, 40))
        for level in range(3):
            base = y - 0.05 - 0.17 * level
            half = w * (1 - 0.22 * level)
            b.polygon([(x - half, base), (x + half, base), (x, base - 0.26)], (25, 95 + 12 * level, 45))


def _desert(b: _Brush) -> None:
    b.gradient((250, 225, 170), (255, 240, 205), 0, 0.5)
    b.disc(b.rng.uniform(0.15, 0.85), 0.14, 0.08, (255, 250, 225))
    b.wave(0.45, 0.05, (225, 170, 95))
    b.wave(0.6, 0.06, (210, 150, 75))
    b.wave(0.8, 0.05, (195, 130, 60))


def _snow(b: _Brush) -> None:
    b.gradient((175, 200, 225), (225, 235, 245), 0, 0.6)
    b.wave(0.55, 0.03, (240, 246, 252))
    b.wave(0.75, 0.03, (250, 252, 255))
    for _ in range(45):
        b.disc(b.rng.random(), b.rng.random(), b.rng.uniform(0.006, 0.014), (255, 255, 255))


def _meadow(b: _Brush) -> None:
    b.gradient((130, 205, 250), (205, 240, 255), 0, 0.45)
    b.wave(0.4, 0.03, (120, 200, 70))
    b.wave(0.62, 0.03, (95, 180, 55))
    for _ in range(22):
        x, y = b.rng.random(), b.rng.uniform(0.5, 0.98)
        b.disc(x, y, 0.014, b.rng.choice([(255, 240, 90), (250, 250, 250), (250, 140, 180)]))


def _mountains(b: _Brush) -> None:
    b.gradient((120, 170, 220), (215, 230, 240), 0, 0.8)
    for i in range(4):
        x, peak, half = 0.1 + i * 0.28 + b.rng.uniform(-0.06, 0.06), b.rng.uniform(0.1, 0.3), b.rng.uniform(0.25, 0.35)
        b.polygon([(x - half, 0.85), (x, peak), (x + half, 0.85)], (95, 100, 120))
        b.polygon([(x - half * 0.25, peak + 0.15), (x, peak), (x + half * 0.25, peak + 0.15)], (245, 248, 252))
    b.wave(0.82, 0.02, (85, 115, 85))


def _city(b: _Brush) -> None:
    b.gradient((170, 190, 205), (220, 215, 205))
    x = -0.02
    while x < 1:
        w, top = b.rng.uniform(0.1, 0.2), b.rng.uniform(0.08, 0.45)
        shade = b.rng.choice([(120, 130, 150), (150, 120, 110), (100, 110, 120), (165, 155, 140)])
        b.box(x, top, x + w, 0.9, shade)
        for row in range(8):
            for column in range(3):
                wx, wy = x + w * (0.15 + 0.28 * column), top + 0.04 + row * 0.09
                if wy < 0.84:
                    b.box(wx, wy, wx + w * 0.16, wy + 0.04, (245, 225, 140))
        x += w + b.rng.uniform(0, 0.02)
    b.box(0, 0.88, 1, 1, (110, 110, 115))


def _night(b: _Brush) -> None:
    b.gradient((10, 15, 50), (35, 45, 95), 0, 0.85)
    for _ in range(40):
        b.disc(b.rng.random(), b.rng.uniform(0, 0.75), b.rng.uniform(0.004, 0.011), (240, 240, 210))
    x = b.rng.uniform(0.12, 0.88)
    b.disc(x, 0.14, 0.085, (250, 245, 205))
    b.disc(x + 0.04, 0.12, 0.07, (16, 22, 58))
    b.wave(0.84, 0.02, (12, 28, 30))


def _sunset(b: _Brush) -> None:
    b.gradient((95, 50, 120), (245, 110, 70), 0, 0.45)
    b.gradient((245, 115, 70), (255, 205, 100), 0.42, 0.72)
    b.disc(b.rng.uniform(0.2, 0.8), 0.62, 0.14, (255, 235, 150))
    b.wave(0.7, 0.01, (80, 35, 70))
    for i in range(5):
        y = 0.75 + i * 0.055
        b.line([(b.rng.uniform(0, 0.4), y), (b.rng.uniform(0.6, 1), y)], 0.01, (225, 120, 80))


def _space(b: _Brush) -> None:
    b.gradient((30, 5, 45), (5, 0, 15))
    for _ in range(4):
        b.disc(b.rng.random(), b.rng.random(), b.rng.uniform(0.1, 0.2), (55, 15, 75))
    for _ in range(30):
        b.disc(b.rng.random(), b.rng.random(), b.rng.uniform(0.003, 0.009), (255, 255, 255))
    x, y, r = b.rng.uniform(0.1, 0.9), b.rng.choice([0.12, 0.9]), b.rng.uniform(0.08, 0.13)
    b.disc(x, y, r, b.rng.choice([(220, 120, 70), (90, 160, 200), (200, 90, 130)]))
    b.line([(x - 1.7 * r, y + 0.5 * r), (x + 1.7 * r, y - 0.5 * r)], 0.018, (225, 200, 150))


def _room(b: _Brush) -> None:
    wall = b.rng.choice([(235, 215, 190), (205, 220, 205), (225, 205, 215)])
    b.box(0, 0, 1, 0.68, wall)
    b.box(0, 0.68, 1, 1, (150, 95, 55))
    for i in range(5):
        b.line([(0, 0.7 + i * 0.075), (1, 0.7 + i * 0.075)], 0.008, (115, 70, 40))
    b.box(0, 0.655, 1, 0.69, (250, 245, 240))
    x = b.rng.choice([0.08, 0.66])
    b.box(x, 0.08, x + 0.26, 0.4, (250, 250, 250))
    b.box(x + 0.02, 0.1, x + 0.12, 0.38, (150, 205, 240))
    b.box(x + 0.14, 0.1, x + 0.24, 0.38, (150, 205, 240))


def _street(b: _Brush) -> None:
    b.gradient((190, 205, 215), (225, 228, 230), 0, 0.35)
    b.box(0, 0.3, 1, 0.42, (165, 165, 160))
    b.box(0, 0.4, 1, 1, (75, 78, 82))
    y = b.rng.uniform(0.66, 0.72)
    start = b.rng.uniform(-0.15, 0.0)
    for i in range(6):
        b.box(start + i * 0.22, y, start + i * 0.22 + 0.12, y + 0.03, (245, 245, 240))
    b.box(0, 0.43, 1, 0.45, (230, 195, 60))


def _rain(b: _Brush) -> None:
    b.gradient((75, 85, 100), (135, 145, 155))
    for i in range(4):
        b.disc(i / 3 + b.rng.uniform(-0.08, 0.08), 0.06, 0.14, (60, 66, 78))
    for _ in range(40):
        x, y = b.rng.uniform(0, 1.1), b.rng.uniform(0.1, 1)
        b.line([(x, y), (x - 0.03, y + 0.08)], 0.009, (185, 205, 225))


def _party(b: _Brush) -> None:
    b.gradient((250, 190, 215), (255, 225, 200))
    colours = [(235, 60, 90), (60, 150, 235), (250, 200, 50), (90, 200, 110), (160, 90, 210)]
    for i in range(7):
        b.polygon([(i / 7, 0.02), ((i + 1) / 7, 0.02), ((i + 0.5) / 7, 0.15)], colours[i % 5])
    for _ in range(45):
        x, y, s = b.rng.random(), b.rng.uniform(0.15, 1), b.rng.uniform(0.01, 0.02)
        b.polygon([(x - s, y), (x, y - s), (x + s, y), (x, y + s)], b.rng.choice(colours))


def _rainbow(b: _Brush) -> None:
    b.gradient((150, 200, 235), (215, 235, 245))
    x, y, r = b.rng.uniform(0.4, 0.6), 0.85, b.rng.uniform(0.62, 0.72)
    bands = [(225, 50, 50), (245, 140, 40), (250, 225, 60), (80, 185, 80), (60, 120, 220), (125, 70, 180)]
    for i, rgb in enumerate(bands):
        b.disc(x, y, r - i * 0.045, rgb)
    b.disc(x, y, r - len(bands) * 0.045, (190, 222, 240))
    b.wave(0.82, 0.02, (130, 190, 110))


_SETTINGS: dict[str, Callable[[_Brush], None]] = {
    "beach": _beach,
    "ocean": _ocean,
    "forest": _forest,
    "desert": _desert,
    "snow": _snow,
    "meadow": _meadow,
    "mountains": _mountains,
    "city": _city,
    "night": _night,
    "sunset": _sunset,
    "space": _space,
    "room": _room,
    "street": _street,
    "rain": _rain,
    "party": _party,
    "rainbow": _rainbow,
}
