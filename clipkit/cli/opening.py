"""Open files in the system's viewer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from clipkit.cli.printing import printable
from clipkit.errors import ClipkitError

MOST_FILES = 20
"""Pictures that one command opens at most: some systems open a window for each."""


def open_files(paths: Sequence[Path]) -> None:
    """Open each file in the program that the system has chosen for its type.

    Raises ClipkitError if the system has no way of opening files, as over SSH.
    """
    for path in paths:
        if click.launch(str(path.absolute())) != 0:
            raise ClipkitError(f"cannot open {printable(path)}: no viewer was found on this machine")
