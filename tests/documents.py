"""The documents that users read, and the blocks of code in them.

A block runs as it stands, unless an HTML comment in the line above it says otherwise:

    <!-- downloads -->   what it needs must be downloaded first; without a network each line stops with one message
    <!-- not run -->     placeholders, GPUs, packages to install; commands are parsed, Python is compiled

A command that ends in the comment `# exits with 1` must exit with 1, every other with 0. Other blocks are output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCUMENTS = [*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^(?:<!-- (?P<mark>[a-z ]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its code, and the mark above it, empty for a block that runs."""

    language: str
    code: str
    mark: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.code.splitlines() if line.strip()]


def name_of(document: Path) -> str:
    """Return a document's path below the repository, as tests are named after it."""
    return document.relative_to(ROOT).as_posix()


def blocks(document: Path) -> list[Block]:
    """Return the blocks of a document that hold commands or Python, in order."""
    found = [Block(m["language"], m["code"], m["mark"] or "") for m in _BLOCK.finditer(document.read_text("utf-8"))]
    return [block for block in found if block.language in ("bash", "python")]


def commands(mark: str) -> list[str]:
    """Return the command lines of all documents in blocks with this mark."""
    found = [block for document in DOCUMENTS for block in blocks(document) if block.language == "bash"]
    return [line for block in found if block.mark == mark for line in block.lines]
