"""Jobs: what takes longer than a request may. They run in child processes, report events, and can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from clipkit.server.problems import NotFound, Problem, to_json

State = Literal["waiting", "running", "done", "failed", "cancelled"]

KEPT = 100
"""Jobs that are remembered, the unfinished ones always."""
_PATIENCE_S = 5.0
"""A child that does not stop within so long after a cancel is killed."""
_MAX_LINE = 16 * 1024 * 1024
_PACKAGE_PARENT = os.fspath(Path(__file__).resolve().parents[2])


@dataclass(frozen=True)
class Event:
    """Something that happened to a job: progress, picture, and at last done, failed or cancelled."""

    number: int
    name: str
    data: dict[str, Any]


@dataclass
class Job:
    """One job. Of successive reports of progress only the last is kept.

    `lane`: the name of the lane that runs it. `ended`: called when nothing more will happen.
    """

    id: str
    kind: str
    lane: str
    request: dict[str, Any] = field(repr=False)
    ended: Callable[[], None] = field(default=lambda: None, repr=False)
    state: State = "waiting"
    created: float = field(default_factory=time.time)
    events: list[Event] = field(default_factory=list)
    cancelling: bool = False
    _count: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def add(self, name: str, data: dict[str, Any]) -> None:
        """Add an event, and wake who follows."""
        if name == "progress" and self.events and self.events[-1].name == "progress":
            self.events.pop()
        self._count += 1
        self.events.append(Event(self._count, name, data))
        if name in ("done", "failed", "cancelled"):
            self.state = name  # type: ignore[assignment]
        self._changed.set()
        self._changed = asyncio.Event()
        if self.finished:
            self.ended()

    async def follow(self, after: int = 0, *, heartbeat: float = 15.0) -> AsyncIterator[Event | None]:
        """Yield the events numbered above `after`, as they come, to the end; None when nothing came for a while."""
        while True:
            changed = self._changed
            for event in [event for event in self.events if event.number > after]:
                after = event.number
                yield event
            if self.finished and not any(event.number > after for event in self.events):
                return
            if changed is self._changed:
                try:
                    async with asyncio.timeout(heartbeat):
                        await changed.wait()
                except TimeoutError:
                    yield None

    def to_json(self) -> dict[str, Any]:
        """Return the state, the last progress, what was generated so far, and the result or problem."""
        last: dict[str, dict[str, Any]] = {event.name: event.data for event in self.events}
        return {
            "job": self.id,
            "kind": self.kind,
            "state": self.state,
            "events": f"/api/jobs/{self.id}/events",
            "progress": last.get("progress"),
            "pictures": [event.data for event in self.events if event.name == "picture"],
            "result": last.get("done"),
            "problem": last.get("failed"),
        }


class Lane:
    """Runs jobs one after another, in a child process that is started on demand.

    `keep`: leave the child running for the next job, its models loaded.
    `prepare`: changes the data of each event before it is passed on.
    `after`: awaited when a job has ended, before its last event.
    """

    def __init__(
        self,
        library: Path,
        *,
        keep: bool,
        prepare: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda name, data: data,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._library, self._keep, self._prepare, self._after = library, keep, prepare, after
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._child: asyncio.subprocess.Process | None = None
        self._running: Job | None = None
        self.last_used = time.monotonic()

    @property
    def pid(self) -> int | None:
        """The process id of the child, if it runs."""
        return self._child.pid if self._child and self._child.returncode is None else None

    def put(self, job: Job) -> None:
        """Queue a job."""
        self._waiting.put_nowait(job)

    async def work(self) -> None:
        """Do jobs for ever; when cancelled, end the child."""
        try:
            while True:
                job = await self._waiting.get()
                if not job.finished:
                    await self._do(job)
        finally:
            await self._end()

    async def cancel(self, job: Job) -> None:
        """Stop a job, asking first."""
        if job.state == "waiting":
            job.add("cancelled", {})
        if job.finished or job.cancelling or job is not self._running:
            return
        job.cancelling = True
        await self._send({"kind": "cancel"})
        end = time.monotonic() + _PATIENCE_S
        while not job.finished and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if not job.finished and job is self._running and self._child:
            _kill(self._child)  # its output ends, and with it the job

    async def end_idle(self, seconds: float) -> None:
        """End a child that had nothing to do for so long."""
        if self._running is None and time.monotonic() - self.last_used > seconds:
            await self._end()

    async def _do(self, job: Job) -> None:
        self._running, job.state = job, "running"
        try:
            name, data = await self._result(job)
            if self._after:
                await self._after()
        except Exception as error:
            name, data = "failed", _failure(f"the job could not be run ({type(error).__name__})")
        finally:
            self._running = None
            self.last_used = time.monotonic()
        if not self._keep:
            await self._end()
        job.add(name, self._prepare(name, data))

    async def _result(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Pass on what the child reports, to the last event, and return that."""
        if self.pid is None:
            await self._start()
        await self._send(job.request)
        assert self._child and self._child.stdout
        while line := await self._child.stdout.readline():
            message = json.loads(line)
            name, data = message["event"], message["data"]
            if name in ("done", "failed", "cancelled"):
                return name, data
            job.add(name, self._prepare(name, data))
        code = await self._child.wait()
        await self._end()
        if job.cancelling:
            return "cancelled", {}
        return "failed", _failure(f"the process that did it ended (exit code {code}); is there enough memory?")

    async def _start(self) -> None:
        seen = [os.path.abspath(entry) for entry in sys.path if entry]
        paths = os.pathsep.join(dict.fromkeys([_PACKAGE_PARENT, *seen]))
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "clipkit.server.job_worker",
            os.fspath(self._library),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_PACKAGE_PARENT,
            env=os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
            limit=_MAX_LINE,
        )

    async def _send(self, message: dict[str, Any]) -> None:
        if self._child and self._child.stdin:
            with contextlib.suppress(OSError):  # it has just died: its output ends, which says so
                self._child.stdin.write(json.dumps(message).encode("ascii") + b"\n")
                await self._child.stdin.drain()

    async def _end(self) -> None:
        """End the child and close its pipes."""
        child, self._child = self._child, None
        if child is None:
            return
        _kill(child)
        if child.stdin:
            child.stdin.close()
        await child.wait()


class Jobs:
    """The jobs of a server, each in one of its lanes.

    `results`: how many jobs ended, by (kind, state). `pictures`: how many pictures they made, by kind.
    """

    def __init__(self, lanes: dict[str, Lane], most_waiting: int) -> None:
        self.lanes, self._most_waiting = lanes, most_waiting
        self._jobs: dict[str, Job] = {}
        self.results: Counter[tuple[str, str]] = Counter()
        self.pictures: Counter[str] = Counter()

    def start(self, kind: str, request: dict[str, Any], *, lane: str, ended: Callable[[], None] = lambda: None) -> Job:
        """Queue a job; `ended` is called when nothing more will happen. Raises Problem 429 if too many wait."""
        if sum(not job.finished for job in self._jobs.values()) >= self._most_waiting:
            raise Problem(429, "too-busy", "too many jobs wait; try again later", {"Retry-After": "10"})

        def end() -> None:
            self.results[kind, job.state] += 1
            self.pictures[kind] += sum(event.name == "picture" for event in job.events)
            ended()

        job = Job(secrets.token_urlsafe(12), kind, lane, request, end)
        self._jobs[job.id] = job
        for old in [job.id for job in self._jobs.values() if job.finished][: max(0, len(self._jobs) - KEPT)]:
            del self._jobs[old]
        self.lanes[lane].put(job)
        return job

    def get(self, number: str) -> Job:
        """Return a job. Raises NotFound."""
        if number not in self._jobs:
            raise NotFound("there is no such job; finished ones are forgotten after a while")
        return self._jobs[number]

    def all(self) -> list[Job]:
        """Return the jobs that are remembered, oldest first."""
        return list(self._jobs.values())

    def states(self) -> dict[str, int]:
        """Return how many of the jobs that are remembered are in each state."""
        return {state: sum(job.state == state for job in self.all()) for state in get_args(State)}

    def active(self) -> list[dict[str, Any]]:
        """Return what is known about the jobs that wait or run."""
        return [job.to_json() for job in self.all() if not job.finished]

    async def cancel(self, job: Job) -> None:
        """Stop a job; one that is finished stays as it is."""
        await self.lanes[job.lane].cancel(job)

    async def end_idle(self, seconds: float) -> None:
        """End children that had nothing to do for so long."""
        for lane in self.lanes.values():
            await lane.end_idle(seconds)


def _kill(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(OSError):
            child.kill()


def _failure(detail: str) -> dict[str, Any]:
    return to_json(Problem(500, "internal-error", detail))
