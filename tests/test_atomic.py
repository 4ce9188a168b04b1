"""Atomic writes: at any moment the file is the old one or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clipkit.atomic import atomic_write, clear_unfinished


def test_the_new_file_appears_once_it_is_complete(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_trace(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="midway"), atomic_write(path) as file:
        file.write(b"ne")
        raise ValueError("midway")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError), atomic_write(tmp_path / "nowhere" / "a.bin"):
        pass


def test_files_left_by_a_killed_process_are_cleared_once_they_are_old(tmp_path: Path):
    code = (
        "import sys, time; from pathlib import Path; from clipkit.atomic import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.bin")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("."), "it never appeared under its final name"
    clear_unfinished(tmp_path)
    assert left.exists(), "another process may still be writing it"
    os.utime(left, (1, 1))
    clear_unfinished(tmp_path)
    assert not list(tmp_path.iterdir())
