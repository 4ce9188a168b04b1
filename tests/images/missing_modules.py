"""Decode pictures as on a machine without an optional module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def refusal_without(module: str, path: Path) -> str:
    """Return kind and reason of the failure to open a picture in a process that cannot import `module`."""
    code = f"""if True:
        import sys
        from pathlib import Path
        sys.modules[{module!r}] = None
        from clipkit.errors import UnreadableImage
        from clipkit.images.decoding import open_picture
        try:
            open_picture(Path({str(path)!r}))
        except UnreadableImage as error:
            print(error.kind, error.reason)
    """
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True).stdout
