"""Show the hits of a search as pictures in the terminal."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.cli.printing import printable

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.measure import Measurement
    from rich.text import Text

    from clipkit.searching.result import SearchResult

COLUMNS, LINES = 24, 9
"""The largest size of a picture, in cells of the terminal."""
SIDE = 320
"""Pixels of the longer side that is sent: enough for such a picture on a display of high resolution."""


def print_pictures(result: SearchResult) -> None:
    """Print generated pictures, then the hits, as a grid with captions; stdout must be a terminal.

    The terminal is asked what it supports: sixel and kitty's graphics protocol are rendered by textual-image, as are
    the half blocks that are printed elsewhere; iTerm2's own protocol, which keeps all colours, is preferred there.
    """
    from rich.columns import Columns
    from rich.console import Console, Group

    tiles = [Group(_rendered(_thumbnail(path)), caption) for path, caption in _pictures(result)]
    if tiles:
        Console().print(Columns(tiles, width=COLUMNS, padding=(1, 2)))


def _pictures(result: SearchResult) -> Iterator[tuple[Path, Text]]:
    """Yield the path and the caption of every picture to show."""
    from rich.text import Text

    for picture in result.generated:
        yield picture.path, Text(f"generated, not found\nseed {picture.seed}", style="magenta", no_wrap=True)
    for hit in result:
        caption = Text(f"{hit.rank} ", style="" if hit.matched else "dim", no_wrap=True, overflow="ellipsis")
        caption.append(printable(hit.path.name), style=f"link {hit.path.as_uri()}")
        state = "away" if hit.away else "match" if hit.matched else "no match"
        caption.append(f"\n{state} {hit.confidence:.2f}", style="green" if hit.matched else "")
        yield hit.path, caption


def _thumbnail(path: Path) -> Image:
    """Return the picture reduced to `SIDE`, or a grey one if it cannot be read."""
    from PIL import Image

    from clipkit.errors import UnreadableImage
    from clipkit.images.decoding import open_picture

    try:
        image = open_picture(path, shortest_side=SIDE).image.convert("RGB")
    except UnreadableImage:
        return Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    image.thumbnail((SIDE, SIDE))
    return image


def _rendered(image: Image) -> RenderableType:
    """Return what draws the picture with the best protocol of this terminal."""
    # A cell is about twice as high as it is wide.
    wide = image.width * LINES * 2 > image.height * COLUMNS
    if "iTerm" in os.environ.get("TERM_PROGRAM", "") + os.environ.get("LC_TERMINAL", ""):
        lines = max(1, round(COLUMNS * image.height / image.width / 2)) if wide else LINES
        columns = COLUMNS if wide else max(1, round(LINES * 2 * image.width / image.height))
        return _ITermPicture(image, columns, lines)
    # On import, textual-image asks the terminal which protocols it supports.
    from textual_image.renderable import Image as Picture

    return Picture(image, width=COLUMNS, height="auto") if wide else Picture(image, width="auto", height=LINES)


class _ITermPicture:
    """A picture in the protocol of iTerm2: https://iterm2.com/documentation-images.html."""

    def __init__(self, image: Image, columns: int, lines: int) -> None:
        self._image, self._columns, self._lines = image, columns, lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.control import Control
        from rich.segment import ControlType, Segment

        # Marking a segment as control keeps Rich from measuring it; moving the cursor by 0 is a control without effect.
        control = [(ControlType.CURSOR_FORWARD, 0)]
        jpeg = io.BytesIO()
        self._image.save(jpeg, "JPEG", quality=85)
        data = base64.b64encode(jpeg.getvalue()).decode()
        size = f"width={self._columns};height={self._lines};size={len(jpeg.getvalue())}"
        # Spaces reserve the room in the layout; then the cursor goes back up and the picture is drawn over them.
        for _ in range(self._lines):
            yield Segment(" " * self._columns + "\n")
        yield Segment("\x1b7", control=control)
        yield Control.move(0, -self._lines)
        yield Segment(f"\x1b]1337;File=inline=1;{size}:{data}\a", control=control)
        yield Segment("\x1b8", control=control)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(self._columns, self._columns)
