"""Run a command as a whole process and measure it; evict files from the page cache."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil


@dataclass(frozen=True)
class Measured:
    """One run of a command.

    seconds: wall clock. cpu_seconds: of the process and its children; the more reliable figure on a shared machine.
    peak_mb: the largest resident memory, in MB of 1,000,000 bytes. Of a single process the system counts it; of a
        process with children it is the largest sum of samples, in which pages that they share count once for each.
    out: what the command printed.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    out: str


def run_process(command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Measured:
    """Run a command to its end and measure it. Exit codes above 1 raise ClickException with its errors."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=env, cwd=cwd)
        done, sampled = threading.Event(), [0]
        watcher = threading.Thread(target=_sample, args=(process.pid, done, sampled))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode not in (0, 1):
            lines = errors.read().splitlines()[-5:]
            raise click.ClickException(f"{' '.join(map(str, command))} exits with {process.returncode}: {lines}")
        own = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Measured(seconds, usage.ru_utime + usage.ru_stime, max(own, sampled[0]) / 1e6, out.read())


def _sample(pid: int, done: threading.Event, peak: list[int]) -> None:
    """Keep the largest resident memory of a process and its children in `peak`, looking four times a second."""
    while not done.wait(0.25):
        try:
            process = psutil.Process(pid)
            children = process.children(recursive=True)
            if children:  # otherwise the system's own count is better
                peak[0] = max(peak[0], sum(one.memory_info().rss for one in (process, *children)))
        except psutil.Error:
            continue


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a process of its own, and return its result: what it imports stays there."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def can_evict() -> bool:
    """Return whether this system can drop a file from its page cache on request: Linux and some others can."""
    return hasattr(os, "posix_fadvise")


def evict(folder: Path) -> int:
    """Drop all files below a folder from the page cache; return their bytes. They must not be mapped or open."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # pages that are not written yet would stay
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            total += path.stat().st_size
    return total
