"""Nothing leaves the machine unasked: commands run under strace, without a network, in an empty home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = "connect,sendto,sendmsg,sendmmsg"


class Traced:
    """Programs run with only a loopback network, in a home of their own, and their connections are recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.scratch = folder, folder / "home", folder / "scratch"
        self.home.mkdir()
        self.scratch.mkdir()
        kept = ("PATH", "LANG", "SYSTEMROOT", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(self.home),
            "TMPDIR": str(self.scratch),
            "CLIPKIT_INDEXES": str(folder / "indexes"),
            "ORT_DISABLE_TELEMETRY": "0",  # must not switch it back on
        }

    def run(self, *command: str | os.PathLike[str]) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run a command; return its result and its calls to internet addresses, failed ones included."""
        record = self.folder / "calls.txt"
        tracer = ("unshare", "-rn", "strace", "-f", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", record)
        done = subprocess.run(
            [*map(os.fspath, tracer), *map(os.fspath, command)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        return done, [line for line in record.read_text("utf-8", "replace").splitlines() if "sa_family=AF_INET" in line]

    def foreign_files(self) -> list[Path]:
        """Return the files in the home outside clipkit's own folders, and leftover temporary files."""
        own = (self.home / ".cache" / "clipkit", self.home / ".local" / "share" / "clipkit")
        there = [path for path in self.home.rglob("*") if path.is_file()]
        return [path for path in there if not any(path.is_relative_to(folder) for folder in own)] + [
            path for path in self.scratch.rglob("*") if path.is_file()
        ]


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    if not sys.platform.startswith("linux") or not shutil.which("strace") or not shutil.which("unshare"):
        pytest.skip("needs strace and unshare, on Linux")
    folder = tmp_path / "traced"
    folder.mkdir()
    traced = Traced(folder)
    try:
        done, _ = traced.run(sys.executable, "-c", "")
    except OSError:
        pytest.skip("strace is not permitted here")
    if done.returncode:
        pytest.skip(f"tracing without a network is not permitted here: {done.stderr.strip()[-200:]}")
    return traced


def test_the_trace_records_a_failing_connection(traced: Traced):
    """Otherwise the other tests could not fail."""
    _, calls = traced.run(sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 5)")
    assert len(calls) == 1 and "192.0.2.1" in calls[0]


def test_commands_connect_to_nothing_and_leave_no_foreign_files(traced: Traced, scene_folder: Path):
    """Index with workers, search, and generate, which imports all dependencies."""
    command = (sys.executable, "-m", "clipkit")
    for arguments in (
        ("index", scene_folder / "2023", "--model", "tiny", "--workers", "2"),
        ("search", "a dog"),
        ("generate", "a helicopter in the snow"),
    ):
        done, calls = traced.run(*command, *arguments)
        assert done.returncode in (0, 1), done.stderr  # a match or not
        assert calls == []
        assert traced.foreign_files() == []


LIBRARY = """
import sys, time
import huggingface_hub.constants
from clipkit import Library

with Library.create("library", "tiny") as library:
    library.index([sys.argv[1]], workers=1)
    library.search("a dog")
    time.sleep(2)  # telemetry is sent from background threads
assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
"""


def test_a_program_that_uses_the_library_connects_to_nothing(traced: Traced, scene_folder: Path):
    done, calls = traced.run(sys.executable, "-c", LIBRARY, scene_folder / "2023")
    assert done.returncode == 0, done.stderr
    assert calls == [] and traced.foreign_files() == []
