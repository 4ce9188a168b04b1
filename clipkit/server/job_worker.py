"""The child process that generates and indexes for a server, so that no search waits for either.

Run as `python -m clipkit.server.job_worker LIBRARY`. Requests and events are lines of JSON on stdin and stdout. Models
stay loaded between jobs; what they held is free as soon as the process ends. It ends with its parent.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from clipkit.library import Library
from clipkit.progress import Progress
from clipkit.server.picture_work import WORK, Say
from clipkit.server.problems import as_problem, to_json

_REPORT_EVERY_S = 0.1


class Cancelled(Exception):
    """The client does not want the result any more."""


class Reporter:
    """Passes progress on, a few times a second, and stops the work once the job was cancelled."""

    def __init__(self, say: Say, cancelled: threading.Event) -> None:
        self._say, self._cancelled = say, cancelled
        self._last: tuple[str, float] = ("", 0.0)

    def __call__(self, progress: Progress) -> None:
        """Report progress. Raises Cancelled."""
        if self._cancelled.is_set():
            raise Cancelled
        now, (stage, then) = time.monotonic(), self._last
        if progress.stage == stage and progress.done != progress.total and now - then < _REPORT_EVERY_S:
            return
        self._last = progress.stage, now
        self._say(
            "progress",
            {"stage": progress.stage, "done": progress.done, "total": progress.total, "rate": round(progress.rate, 2)},
        )


def index(library: Library, job: dict[str, Any], say: Say, report: Reporter) -> dict[str, Any]:
    """Index folders; return the report."""
    options = {key: value for key, value in job.items() if key in ("exclude", "include_generated", "remove_missing")}
    paths = [Path(path) for path in job["paths"]]
    done = library.index(paths, model=job.get("model"), device=job["device"], progress=report, **options)
    return done.to_json()


def run(library_folder: Path, requests: BinaryIO, answers: BinaryIO) -> None:
    """Do one job after another until the requests end."""
    incoming: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    cancelled = threading.Event()

    def listen() -> None:
        for line in requests:
            job = json.loads(line)
            if job["kind"] == "cancel":
                cancelled.set()
            else:
                cancelled.clear()
                incoming.put(job)
        os._exit(0)  # the server is gone

    def say(event: str, data: dict[str, Any]) -> None:
        answers.write(json.dumps({"event": event, "data": data}).encode("ascii") + b"\n")
        answers.flush()

    threading.Thread(target=listen, daemon=True).start()
    work = {"index": index, **WORK}
    while True:
        job = incoming.get()
        try:
            with Library.open(library_folder) as library:
                report = Reporter(say, cancelled)
                report(Progress("starting", 0))
                say("done", work[job["kind"]](library, job, say, report))
        except Cancelled:
            say("cancelled", {})
        except Exception as error:
            say("failed", to_json(as_problem(error)))


if __name__ == "__main__":
    # Libraries that print must not disturb the events.
    own_input, own_output = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl-C
    run(Path(sys.argv[1]), own_input, own_output)
