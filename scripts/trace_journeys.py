"""Count the two journeys that docs/architecture.md tells: a file on disk to a hit, a miss to a generated picture.

    python scripts/trace_journeys.py

Runs the commands on sample scenes with the bundled model, in a temporary folder, and prints the modules whose functions
ran, in the order they were entered, and the steps back up: calls from a module to one on a higher floor, which are
callbacks, since no import goes up. Pictures are decoded in this process rather than in a child, so that they count.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = f"{ROOT / 'clipkit'}{os.sep}"


def floors() -> dict[str, int]:
    """Return the rooms and their floors, 0 at the top, from the test that holds the list."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text("utf-8"))
    listed = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "FLOORS")
    return {room: level for level, floor in enumerate(ast.literal_eval(listed)) for room in floor.split()}


class Trace:
    """The functions of clipkit that ran, in order, and the calls that went to a higher floor."""

    def __init__(self) -> None:
        self.entered: dict[str, list[str]] = {}
        self.up: list[str] = []
        self._floors = floors()

    def run(self, journey: Callable[[], None]) -> None:
        """Run a journey under the profiler, its threads included."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            journey()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        if not code.co_flags & inspect.CO_OPTIMIZED or code.co_name.startswith("<"):
            return  # the body of a module or class, a lambda, a comprehension
        module = code.co_filename.removeprefix(PACKAGE)
        functions = self.entered.setdefault(module, [])
        if code.co_qualname not in functions:
            functions.append(code.co_qualname)
        if code.co_flags & inspect.CO_GENERATOR:
            return  # whoever takes its next item resumes it, which is not a call
        caller = frame.f_back
        while caller and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        if caller and caller.f_code.co_flags & inspect.CO_OPTIMIZED:
            above = caller.f_code.co_filename.removeprefix(PACKAGE)
            step = f"{above} {caller.f_code.co_qualname} -> {module} {code.co_qualname}"
            if self._floor(module) < self._floor(above) and step not in self.up:
                self.up.append(step)

    def _floor(self, module: str) -> int:
        return self._floors.get(module.split(os.sep)[0].removesuffix(".py"), len(self._floors))

    def show(self, title: str) -> None:
        """Print the journey."""
        print(f"\n{title}: {len(self.entered)} files entered, {len(self.up)} steps back up")
        for module, functions in self.entered.items():
            print(f"  {module}: {', '.join(functions)}")
        for step in self.up:
            print(f"  up: {step}")


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="clipkit-journeys-"))
    os.environ |= {"CLIPKIT_INDEXES": str(folder / "libraries"), "HF_HUB_OFFLINE": "1"}
    sys.path.insert(0, str(ROOT))
    from clipkit.cli.main import main as clipkit
    from clipkit.images.decode_pool import DecodePool
    from clipkit.images.decode_worker import decode_file

    def decode_here(self: DecodePool, path: Path) -> Any:
        return decode_file(path, *self._children[0]._setup)

    DecodePool._decode_one = decode_here  # type: ignore[method-assign]
    clipkit(["demo", str(folder), "--scenes", "120"])

    def file_to_hit() -> None:
        clipkit(["index", str(folder / "photos"), "--model", "tiny"])
        clipkit(["search", "a cat on the beach"])

    def miss_to_picture() -> None:
        clipkit(["search", "a helicopter in the snow"])

    for title, journey in (("A file to a hit", file_to_hit), ("A miss to a generated picture", miss_to_picture)):
        trace = Trace()
        trace.run(journey)
        trace.show(title)


if __name__ == "__main__":
    main()
