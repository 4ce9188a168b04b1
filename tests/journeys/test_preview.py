"""`clipkit search --preview` on pseudo-terminals of four kinds, and `--open`."""

from __future__ import annotations

import base64
import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")

SEARCH = ("search", "a cat", "--generate", "never", "-k", "3")


@pytest.fixture
def indexes(scene_library: Path) -> Path:
    return scene_library.parent


def on_terminal(indexes: Path, answers: dict[bytes, bytes], environment: dict[str, str]) -> bytes:
    """Run a search with --preview on a terminal of 100 columns that answers questions; return what it wrote."""
    import fcntl
    import pty
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 1000, 800))
    plain = {k: v for k, v in os.environ.items() if k not in ("TERM_PROGRAM", "LC_TERMINAL", "NO_COLOR")}
    colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        [sys.executable, "-m", "clipkit", *SEARCH, "--preview"],
        env={**plain, "CLIPKIT_INDEXES": str(indexes), **colours, **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    written = b""
    try:
        while part := os.read(master, 65536):
            written += part
            for question, answer in answers.items():
                if question in part:
                    os.write(master, answer)
    except OSError:  # end of file, on Linux
        pass
    os.close(master)
    assert process.wait(60) == 0, written[-2000:]
    assert b"Traceback" not in written
    return written


def first_hit(indexes: Path) -> np.ndarray:
    """Return the first hit, 8 x 8 pixels."""
    from clipkit.library import Library

    with Library.open(indexes / "default") as library:
        (hit,) = library.search("a cat", k=1)
    return small(Image.open(hit.path))


def small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BOX), float)


def test_kitty_gets_the_pictures_as_png(indexes: Path):
    answers = {b"a=q": b"\x1b_Gi=1;OK\x1b\\"}
    written = on_terminal(indexes, answers, {"TERM": "xterm-kitty"})
    sent: dict[bytes, bytes] = {}
    for number, data in re.findall(rb"\x1b_Gi=(\d+),m=[01],f=100[^;]*;([A-Za-z0-9+/=]+)\x1b", written):
        sent[number] = sent.get(number, b"") + data
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in sent.values()]
    assert len(pictures) == 3
    assert np.abs(small(pictures[0]) - first_hit(indexes)).mean() < 8
    assert b"match" in written


def test_iterm2_gets_its_own_protocol(indexes: Path):
    written = on_terminal(indexes, {}, {"TERM_PROGRAM": "iTerm.app"})
    pictures = re.findall(rb"\x1b\]1337;File=inline=1;width=18;height=9;size=\d+:([A-Za-z0-9+/=]+)\a", written)
    assert len(pictures) == 3
    first = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert np.abs(small(first) - first_hit(indexes)).mean() < 8


def test_sixel_terminals_get_sixels(indexes: Path):
    written = on_terminal(indexes, {b"\x1b[c": b"\x1b[?62;4;22c"}, {})
    assert len(re.findall(rb"\x1bP[0-9;]*q", written)) == 3
    assert "\N{UPPER HALF BLOCK}".encode() not in written


def test_others_get_half_blocks_in_the_colours_of_the_picture(indexes: Path):
    written = on_terminal(indexes, {b"\x1b[c": b"\x1b[?62;22c"}, {}).decode()
    colours = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m\u2580", written)
    assert len(colours) == 3 * 18 * 9
    # Three pictures stand side by side, each 18 cells wide and 9 high.
    first = np.array(colours, int).reshape(9, 3, 18, 2, 3)[:, 0].transpose(0, 2, 1, 3).reshape(18, 18, 3)
    assert np.abs(small(Image.fromarray(first.astype(np.uint8))) - first_hit(indexes)).mean() < 12


def test_preview_needs_a_terminal(clipkit):
    output = clipkit("search", "a cat", "--preview")
    assert output.code == 2 and "--preview shows pictures in a terminal" in output.err


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indexes: Path):
    """Put a viewer on the PATH that notes what it was asked to open; return a function that reads the notes."""
    if sys.platform != "linux":
        pytest.skip("the viewer of other systems cannot be replaced")
    notes = tmp_path / "opened"
    viewer = tmp_path / "bin" / "xdg-open"
    viewer.parent.mkdir()
    viewer.write_text(f'#!/bin/sh\necho "$1" >> {notes}\n')
    viewer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{viewer.parent}:{os.environ['PATH']}")

    def read(count: int) -> list[str]:
        import time

        deadline = time.monotonic() + 20  # viewers are not waited for
        while time.monotonic() < deadline:
            if notes.exists() and notes.read_text().count("\n") >= count:
                break
            time.sleep(0.02)
        return sorted(notes.read_text().splitlines())

    return read


def test_open_opens_the_matches(clipkit, opened, indexes):
    import json

    output = clipkit("search", "a cat", "--generate", "never", "--json", "--open", "--indexes", indexes)
    matches = sorted(hit["path"] for hit in json.loads(output.out)["hits"] if hit["matched"])
    assert output.code == 0 and matches
    assert opened(len(matches)) == matches


def test_open_opens_the_contact_sheet(clipkit, opened, indexes, tmp_path):
    sheet = tmp_path / "sheet.jpg"
    assert clipkit(*SEARCH, "--contact-sheet", sheet, "-k", "50", "--open", "--indexes", indexes).code == 0
    assert opened(1) == [str(sheet)]


def test_open_does_not_open_hundreds_of_windows(clipkit, indexes):
    output = clipkit("search", "a cat", "-k", "100", "--open", "--indexes", indexes)
    assert output.code == 2 and "at most 20 pictures" in output.err


def test_open_says_so_where_there_is_no_viewer(clipkit, indexes, monkeypatch, tmp_path):
    if sys.platform != "linux":
        pytest.skip("other systems always have a viewer")
    monkeypatch.setenv("PATH", str(tmp_path))
    output = clipkit(*SEARCH, "--open", "--indexes", indexes)
    assert output.code == 2 and "no viewer was found" in output.err
