"""How an explanation is printed: its numbers, its concepts and parts, and in a terminal its heat."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from clipkit.cli.printing import printable, say

if TYPE_CHECKING:
    from clipkit.searching.explanation import Concepts, Explanation, Floats

BLOCKS, LETTERS = " ░▒▓█", " .:*#"
"""From cold to hot; letters where the terminal's encoding has no blocks."""
UNSEEN = "-"
COLUMNS, LINES = 64, 24
"""The largest size of a heat map, in cells of the terminal."""
WIDTH = 11


def print_explanation(explanation: Explanation, *, in_terminal: bool) -> None:
    """Print an explanation for people; in a terminal with the heat as blocks."""
    found = "match" if explanation.matched else "no match"
    _line("picture", explanation.picture)
    _line("verdict", f"{found}, confidence {explanation.confidence:.2f}, cosine {explanation.score:.3f}")
    for part in explanation.parts:
        shown = "shown" if part.shown else "not shown"
        _line("part", f"{part.in_words}: {shown}, confidence {part.confidence:.2f}, cosine {part.score:.3f}")
    _line("query near", _concepts(explanation.query_concepts))
    _line("shows", _concepts(explanation.picture_concepts))
    _line("in common", _concepts(explanation.shared_concepts))
    if in_terminal:
        say("")
        for line in heat_lines(explanation.heat, explanation.seen, BLOCKS if _can_print(BLOCKS) else LETTERS):
            say(line)


def heat_lines(heat: Floats, seen: tuple[float, float, float, float], marks: str = BLOCKS) -> list[str]:
    """Draw a heat map in characters, about as wide and high as the picture, with what the model does not see as "-".

    marks: characters from cold to hot.
    """
    rows, columns = heat.shape
    most = min(COLUMNS, shutil.get_terminal_size().columns - 1)
    # A character is about twice as high as it is wide.
    scale = min(most / columns, 2 * LINES / rows)
    width, height = max(1, round(columns * scale)), max(1, round(rows * scale / 2))
    left, top, right, bottom = seen
    lines = []
    for row in range(height):
        y = (row + 0.5) / height
        line = ""
        for column in range(width):
            x = (column + 0.5) / width
            if not (left <= x <= right and top <= y <= bottom):
                line += UNSEEN
                continue
            value = float(heat[int(y * rows), int(x * columns)])
            line += marks[min(len(marks) - 1, int(value * len(marks)))]
        lines.append(line)
    return ["+" + "-" * width + "+", *(f"|{line}|" for line in lines), "+" + "-" * width + "+"]


def _line(name: str, value: str) -> None:
    say(f"{name:{WIDTH}} {printable(value)}")


def _concepts(concepts: Concepts) -> str:
    return ", ".join(f"{concept} {score:.2f}" for concept, score in concepts) or "none"


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
        return True
    except (UnicodeEncodeError, LookupError):
        return False
