"""Decode files in child processes, so that no file can hang or crash the run that reads it.

Unlike `multiprocessing`, this needs neither fork nor a guarded `__main__` in the user's script, and works the same on
Linux, macOS and Windows.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from clipkit.errors import ClipkitError, UnreadableImage
from clipkit.images.decode_worker import Decoded, Done, Examine, Task, read_message, write_message
from clipkit.images.failure_causes import RESOURCES
from clipkit.images.limits import Limits
from clipkit.images.preprocessing import Preprocessing

T = TypeVar("T")
R = TypeVar("R")

_START_SECONDS = 120.0
_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
_PACKAGE_PARENT = os.fspath(Path(__file__).resolve().parents[2])


class DecodePool:
    """A pool of `workers` child processes that decode files.

    A child that takes longer than `timeout` seconds for a file is killed. `examine` runs in the child, on each decoded
    picture. At most `ahead` files, or four per worker if that is more, are decoded before they are asked for.
    `on_decoded` is called, on any thread, with the seconds that a child took for a file.

    Use the pool in a `with` block: leaving it kills the children. They start with the first file and are reused by
    later calls of `decode`.
    """

    def __init__(
        self,
        workers: int,
        preprocessing: Preprocessing,
        limits: Limits | None = None,
        timeout: float = 60.0,
        examine: Examine | None = None,
        *,
        ahead: int = 0,
        on_decoded: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"the number of workers must be at least 1, not {workers}")
        self.workers, self._ahead, self._on_decoded = workers, max(ahead, 4 * workers), on_decoded
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        self._children = [_Child((preprocessing, limits or Limits(), examine), timeout) for _ in range(workers)]
        for child in reversed(self._children):
            self._idle.put(child)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="clipkit-decode")
        self._closed = False

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all children. Further calls do nothing."""
        self._closed = True
        for child in self._children:
            child.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.release()

    @property
    def pids(self) -> list[int]:
        """The process ids of the running children."""
        return [pid for child in self._children if (pid := child.pid) is not None]

    def decode(
        self, files: Iterable[T], *, path: Callable[[T], Path | None]
    ) -> Iterator[tuple[T, Decoded | UnreadableImage | None]]:
        """Yield each of `files`, in order, with its decoded picture or the error that it failed with.

        A file whose `path` is None needs no decoding and is yielded with None.
        `files` is consumed lazily, and only so far ahead of what was yielded, to bound memory.
        Raises `ClipkitError` if the child processes cannot be started.
        """
        if self._closed:
            raise ValueError("this DecodePool is closed")
        ahead: deque[tuple[T, Future[Any] | None]] = deque()
        waiting, exhausted = iter(files), False
        try:
            while True:
                while not exhausted and len(ahead) < self._ahead:
                    try:
                        file = next(waiting)
                    except StopIteration:
                        exhausted = True
                        break
                    where = path(file)
                    ahead.append((file, self._threads.submit(self._decode_one, where) if where is not None else None))
                if not ahead:
                    return
                file, future = ahead.popleft()
                yield file, future.result() if future is not None else None
        finally:
            for _, future in ahead:
                if future is not None:
                    future.cancel()

    def run(self, path: Path, task: Task[R]) -> R | UnreadableImage:
        """Return what a task makes of one file, or the error that it failed with; waits for a child.

        Raises `ClipkitError` if the child process cannot be started.
        """
        if self._closed:
            raise ValueError("this DecodePool is closed")
        answer = self._decode_one(path, task)
        assert not isinstance(answer, Decoded)
        return answer.value if isinstance(answer, Done) else answer

    def end_idle(self) -> None:
        """End the children that have nothing to do; they start again on demand."""
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for child in idle:
            child.end()
            self._idle.put(child)

    def _decode_one(self, path: Path, task: Task[Any] | None = None) -> Decoded | Done | UnreadableImage:
        child = self._idle.get()
        started = time.perf_counter()
        try:
            return child.decode(path, task)
        finally:
            self._on_decoded(time.perf_counter() - started)
            self._idle.put(child)


class _Child:
    """A child process, started on demand. Only one thread at a time may use it; any thread may close it."""

    def __init__(self, setup: tuple[Preprocessing, Limits, Examine | None], timeout: float) -> None:
        self._setup, self._timeout = setup, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # a pool thread may start it while another closes it
        self._closed = False

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def decode(self, path: Path, task: Task[Any] | None = None) -> Decoded | Done | UnreadableImage:
        absolute = Path(os.path.abspath(path))  # the child has a different working directory
        request = pickle.dumps((absolute, task), protocol=pickle.HIGHEST_PROTOCOL)
        for attempt in range(2):
            process = self._running()
            alarm = _Alarm(process, self._timeout)
            try:
                write_message(_stdin(process), request)
            except OSError:
                alarm.cancel()
                self._end()
                if attempt == 0 and not self._closed:
                    continue  # it died while idle: not the fault of this file
                return UnreadableImage(path, "crashed", "the decoding process does not respond", RESOURCES)
            answer = read_message(_stdout(process))
            if alarm.cancel():
                self._end()
                return UnreadableImage(
                    path, "timeout", f"decoding took longer than {self._timeout:g} seconds", RESOURCES
                )
            if answer is not None:
                return answer if isinstance(answer, Decoded | Done) else UnreadableImage(path, *answer)
            code = self._end()
            # A fault in the decoder ends with one of these; anything else came from outside, such as SIGKILL when the
            # machine is out of memory.
            own = code is not None and (-code in _FAULTS or code >= 0xC0000000)
            reason = f"the decoder crashed on this file ({_describe_exit(code)})"
            return UnreadableImage(path, "crashed", reason, "" if own else RESOURCES)
        raise AssertionError("unreachable")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            _kill(process)
            # A thread that reads from it now sees the end of the pipe, and closes its own side.
            process.wait()

    def end(self) -> None:
        """End the process, which starts again on demand. Call it while no other thread uses this child."""
        if (process := self._process) is not None:
            _kill(process)
            self._end()

    def release(self) -> None:
        """Close the pipes. Call it once no thread reads from them."""
        self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._start()
        if self._process is None:
            raise ClipkitError("the pool of decoding processes was closed")
        return self._process

    def _start(self) -> None:
        # Keep its stderr until it has started, to report why if it does not.
        with tempfile.TemporaryFile() as stderr:
            with self._lock:
                if self._closed:
                    return
                self._process = process = subprocess.Popen(
                    [sys.executable, "-m", "clipkit.images.decode_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    cwd=_PACKAGE_PARENT,  # where `-m` looks for modules: never a folder of untrusted files
                    env=_environment(),
                )
            alarm = _Alarm(process, _START_SECONDS)
            try:
                write_message(_stdin(process), pickle.dumps(self._setup))
                ready = read_message(_stdout(process))
            except OSError:
                ready = None
            alarm.cancel()
            if ready is None and not self._closed:
                self._end()
                stderr.seek(0)
                last = (stderr.read()[-2000:].decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
                raise ClipkitError(f"could not start the decoding process: {last}")

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        # A process that is already exiting gets a moment to set its exit code.
        try:
            code: int | None = process.wait(0.2)
        except subprocess.TimeoutExpired:
            _kill(process)
            code = process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # the last flush failed: the process is gone
                pass
        return code


class _Alarm:
    """A timer that kills a process. Windows cannot wait for a pipe with a timeout; this works everywhere."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._fired = False
        self._process = process
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self._fired = True
        _kill(self._process)

    def cancel(self) -> bool:
        """Stop the timer and return whether it had fired."""
        self._timer.cancel()
        return self._fired


def _environment() -> dict[str, str]:
    """Return the child's environment: it imports what this process can, and nothing from its working directory.

    It computes on one thread, because there is a child for every core.
    """
    seen = [os.path.abspath(entry) for entry in sys.path if entry]
    if _PACKAGE_PARENT not in seen:
        seen.insert(0, _PACKAGE_PARENT)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return os.environ | one_thread | {"PYTHONPATH": os.pathsep.join(seen), "PYTHONSAFEPATH": "1"}


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):  # it has exited already
        process.kill()


def _stdin(process: subprocess.Popen[bytes]) -> BinaryIO:
    assert process.stdin is not None
    return process.stdin  # type: ignore[return-value]


def _stdout(process: subprocess.Popen[bytes]) -> BinaryIO:
    assert process.stdout is not None
    return process.stdout  # type: ignore[return-value]
