"""Nothing leaves the machine unasked: commands are traced without a network and with an empty home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = "connect,sendto,sendmsg,sendmmsg"


class Traced:
    """Runs programs with no network but their own loopback, a home of their own, and a record of who they call."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.scratch = folder, folder / "home", folder / "scratch"
        self.home.mkdir()
        self.scratch.mkdir()
        kept = ("PATH", "LANG", "SYSTEMROOT", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(self.home), "TMPDIR": str(self.scratch), "CLIPKIT_INDEXES": str(folder / "indexes"),
            "ORT_DISABLE_TELEMETRY": "0",  # what the environment says does not count
        }  # fmt: skip

    def run(self, *command: str | os.PathLike[str]) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """What became of the command, and its calls to internet addresses, those that failed included."""
        record = self.folder / "calls.txt"
        tracer = ("unshare", "-rn", "strace", "-f", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", record)
        done = subprocess.run(
            [*map(os.fspath, tracer), *map(os.fspath, command)], env=self.environment, cwd=self.folder,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return done, [line for line in record.read_text("utf-8", "replace").splitlines() if "sa_family=AF_INET" in line]

    def foreign_files(self) -> list[Path]:
        """Files in the home, outside clipkit's own folders there, and what was left where temporary files go."""
        own = (self.home / ".cache" / "clipkit", self.home / ".local" / "share" / "clipkit")
        there = [path for path in self.home.rglob("*") if path.is_file()]
        return [path for path in there if not any(path.is_relative_to(folder) for folder in own)] + [
            path for path in self.scratch.rglob("*") if path.is_file()
        ]


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    if not sys.platform.startswith("linux") or not shutil.which("strace") or not shutil.which("unshare"):
        pytest.skip("strace and unshare, which only Linux has, are not here to watch for connections")
    folder = tmp_path / "traced"
    folder.mkdir()
    traced = Traced(folder)
    try:
        done, _ = traced.run(sys.executable, "-c", "")
    except OSError:
        pytest.skip("strace may not trace here")
    if done.returncode:
        pytest.skip(f"no process may be traced without a network here: {done.stderr.strip()[-200:]}")
    return traced


def test_the_trace_shows_a_call_that_fails(traced: Traced):
    """Or the other tests could not fail."""
    _, calls = traced.run(sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 5)")
    assert len(calls) == 1 and "192.0.2.1" in calls[0]


def test_commands_call_nobody_and_leave_no_foreign_file(traced: Traced, scene_folder: Path):
    """Indexing with its workers, searching, and making a picture, which imports all that clipkit stands on."""
    command = (sys.executable, "-m", "clipkit")
    for arguments in (
        ("index", scene_folder / "2023", "--model", "tiny", "--workers", "2"),
        ("search", "a dog"),
        ("generate", "a helicopter in the snow"),
    ):
        done, calls = traced.run(*command, *arguments)
        assert done.returncode in (0, 1), done.stderr  # whether the search finds one is no matter here
        assert calls == []
        assert traced.foreign_files() == []


LIBRARY = """
import sys, time
import huggingface_hub.constants
from clipkit import Library

with Library.create("library", "tiny") as library:
    library.index([sys.argv[1]], workers=1)
    library.search("a dog")
    time.sleep(2)  # what has something to send does so from a thread of its own
assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
"""


def test_a_program_that_uses_the_library_calls_nobody(traced: Traced, scene_folder: Path):
    done, calls = traced.run(sys.executable, "-c", LIBRARY, scene_folder / "2023")
    assert done.returncode == 0, done.stderr
    assert calls == [] and traced.foreign_files() == []
