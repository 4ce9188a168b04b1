"""Decoding in child processes, so that no file can hang or kill the run that reads it.

A child is `python -m clipkit.images.worker`, which reads requests from its stdin and answers on its stdout, each
message a pickle after its length in eight bytes. Unlike `multiprocessing`, this needs neither fork nor a guarded
`__main__` in the user's script, and works alike on Linux, macOS and Windows.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import Image

from clipkit.errors import ClipkitError, UnreadableImage
from clipkit.images.causes import HERE, MACHINE, cause_of
from clipkit.images.decoding import Limits, open_picture
from clipkit.images.files import describe_os_error, modified_ns
from clipkit.images.metadata import Metadata
from clipkit.images.preprocessing import Preprocessing

T = TypeVar("T")

Examine = Callable[[Path, Image.Image], str | None]
"""Looks at a file and its upright, perhaps reduced pixels while both are at hand; a function of a module."""

_LENGTH = struct.Struct("<Q")
_START_SECONDS = 120.0
# Pictures are decoded at no less than this many times the model's side, and only then resized with care.
_OVERSAMPLING = 2


@dataclass
class Decoded:
    """A picture as its model wants it.

    `pixels`: uint8 (size, size, 3), RGB. `width`, `height`: of the full upright picture. `size` (bytes) and `mtime_ns`
    are the file's, from before it was decoded (see `modified_ns`). `remark` is what the pool's `examine` said of it.
    """

    pixels: np.ndarray
    width: int
    height: int
    format: str
    metadata: Metadata
    size: int
    mtime_ns: int
    remark: str | None = None


def decode_file(path: Path, preprocessing: Preprocessing, limits: Limits, examine: Examine | None = None) -> Decoded:
    """Decode one file in this process. Raises `UnreadableImage`, also where the file changed while it was read."""
    try:
        before = os.stat(path)
        picture = open_picture(path, shortest_side=_OVERSAMPLING * preprocessing.size, limits=limits)
        pixels = preprocessing.pixels(picture.image, picture.whole)
        remark = examine(path, picture.image) if examine else None
        after = os.stat(path)
    except OSError as error:
        raise UnreadableImage(path, *describe_os_error(error)) from error
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise UnreadableImage(path, "unreadable", "it changed while it was read", HERE)
    return Decoded(
        pixels, picture.width, picture.height, picture.format, picture.metadata, before.st_size, modified_ns(before),
        remark,
    )  # fmt: skip


class DecodePool:
    """Decodes files in `workers` child processes; a file may take `timeout` seconds before its child is killed.

    `examine` runs there as well, on each picture that was decoded.

    Use it in a `with` block: leaving it ends the children at once. They start when the first file comes, and stay for
    further calls of `decode`.
    """

    def __init__(
        self,
        workers: int,
        preprocessing: Preprocessing,
        limits: Limits | None = None,
        timeout: float = 60.0,
        examine: Examine | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"the number of workers must be at least 1, not {workers}")
        self.workers = workers
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
        """End all children at once, whatever they are doing. Calling it again does nothing."""
        self._closed = True
        for child in self._children:
            child.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.release()

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that run now."""
        return [pid for child in self._children if (pid := child.pid) is not None]

    def decode(
        self, files: Iterable[T], *, path: Callable[[T], Path | None]
    ) -> Iterator[tuple[T, Decoded | UnreadableImage | None]]:
        """Yield each of `files` with its picture, or with the reason why there is none, in the order given.

        Those whose `path` is None need no decoding: they pass in their place, with None.
        `files` is read lazily, at most four files a worker ahead of what was yielded, so memory stays flat.
        Raises `ClipkitError` if the child processes cannot be started at all.
        """
        if self._closed:
            raise ValueError("this DecodePool is closed")
        ahead: deque[tuple[T, Future[Decoded | UnreadableImage] | None]] = deque()
        waiting, exhausted = iter(files), False
        try:
            while True:
                while not exhausted and len(ahead) < 4 * self.workers:
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

    def _decode_one(self, path: Path) -> Decoded | UnreadableImage:
        child = self._idle.get()
        try:
            return child.decode(path)
        finally:
            self._idle.put(child)


class _Child:
    """One child process, started when needed; used by one thread at a time, closed from any."""

    def __init__(self, setup: tuple[Preprocessing, Limits, Examine | None], timeout: float) -> None:
        self._setup, self._timeout = setup, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # between starting in a pool thread and closing in another
        self._closed = False

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def decode(self, path: Path) -> Decoded | UnreadableImage:
        absolute = Path(os.path.abspath(path))  # the child has another working folder
        request = pickle.dumps(absolute, protocol=pickle.HIGHEST_PROTOCOL)
        for attempt in range(2):
            process = self._running()
            alarm = _Alarm(process, self._timeout)
            try:
                _write(_stdin(process), request)
            except OSError:
                alarm.cancel()
                self._end()
                if attempt == 0 and not self._closed:
                    continue  # it died while idle, which is not this file's fault
                return UnreadableImage(path, "crashed", "the decoding process could not be reached", MACHINE)
            answer = _read(_stdout(process))
            if alarm.cancel():
                self._end()
                return UnreadableImage(path, "timeout", f"decoding took longer than {self._timeout:g} seconds", MACHINE)
            if answer is not None:
                return answer if isinstance(answer, Decoded) else UnreadableImage(path, *answer)
            code = self._end()
            # A fault of the decoder's own kills with one of these; anything else came from outside, as the kernel's
            # SIGKILL does where memory runs out.
            own = code is not None and (-code in _FAULTS or code >= 0xC0000000)
            reason = f"the decoder died of this file ({_describe_exit(code)})"
            return UnreadableImage(path, "crashed", reason, "" if own else MACHINE)
        raise AssertionError("unreachable")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            _kill(process)
            # The thread that reads from it, if any, now sees the end of the pipe and closes its own side.
            process.wait()

    def release(self) -> None:
        """Close the pipes, once no thread reads from them any more."""
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
        # Its stderr is kept until it has started, to say why if it does not.
        with tempfile.TemporaryFile() as complaints:
            with self._lock:
                if self._closed:
                    return
                self._process = process = subprocess.Popen(
                    [sys.executable, "-m", "clipkit.images.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    cwd=_PACKAGE_PARENT,  # `-m` looks for modules there: not in a folder of strangers' files
                    env=_environment(),
                )
            alarm = _Alarm(process, _START_SECONDS)
            try:
                _write(_stdin(process), pickle.dumps(self._setup))
                ready = _read(_stdout(process))
            except OSError:
                ready = None
            alarm.cancel()
            if ready is None and not self._closed:
                self._end()
                complaints.seek(0)
                last = (complaints.read()[-2000:].decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
                raise ClipkitError(f"the process that decodes pictures does not start: {last}")

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        # One that is going down by itself has a moment to leave its own exit code.
        try:
            code: int | None = process.wait(0.2)
        except subprocess.TimeoutExpired:
            _kill(process)
            code = process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what could not be flushed to the dead
                pass
        return code


class _Alarm:
    """Kills a process after some seconds. Windows cannot wait for a pipe with a time limit; this works everywhere."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._rang = False
        self._process = process
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self._rang = True
        _kill(self._process)

    def cancel(self) -> bool:
        """Stop it, and return whether it had rung."""
        self._timer.cancel()
        return self._rang


_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
_PACKAGE_PARENT = os.fspath(Path(__file__).resolve().parents[2])


def _environment() -> dict[str, str]:
    """Let the child see the modules this process sees, and none from the working folder."""
    seen = [os.path.abspath(entry) for entry in sys.path if entry]
    if _PACKAGE_PARENT not in seen:
        seen.insert(0, _PACKAGE_PARENT)
    return os.environ | {"PYTHONPATH": os.pathsep.join(seen), "PYTHONSAFEPATH": "1"}


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):  # gone already
        process.kill()


def _stdin(process: subprocess.Popen[bytes]) -> BinaryIO:
    assert process.stdin is not None
    return process.stdin  # type: ignore[return-value]


def _stdout(process: subprocess.Popen[bytes]) -> BinaryIO:
    assert process.stdout is not None
    return process.stdout  # type: ignore[return-value]


def _write(pipe: BinaryIO, message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _read(pipe: BinaryIO) -> Any:
    """Return the next message; None at the end of the pipe or if it breaks off."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message = pipe.read(length)
    return pickle.loads(message) if len(message) == length else None


def _serve() -> None:
    """Answer requests until stdin ends. The parent's Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries that print, or read, must not get between the two processes: they get the null device.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    preprocessing, limits, examine = _read(requests) or sys.exit(0)
    _write(answers, pickle.dumps("ready"))
    os.dup2(nothing, 2)  # from now on nobody reads what libtiff and LibRaw have to say
    incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, incoming), daemon=True).start()
    while True:
        path = incoming.get()
        try:
            answer: object = decode_file(path, preprocessing, limits, examine)
        except UnreadableImage as error:
            answer = (error.kind, error.reason, cause_of(error, limits.pixels))
        except MemoryError:
            answer = ("too-large", "decoding it takes more memory than there is", MACHINE)
        except Exception as error:  # a fault of ours: still one file's failure, not the run's
            answer = ("unreadable", f"decoding failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
        _write(answers, pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))


def _listen(requests: BinaryIO, incoming: queue.SimpleQueue[Any]) -> None:
    """Pass requests on, and leave when the parent is gone, even in the middle of a picture."""
    while (path := _read(requests)) is not None:
        incoming.put(path)
    os._exit(0)


if __name__ == "__main__":
    # Run as __main__, this module is another one than `clipkit.images.worker`, and its classes would unpickle wrongly.
    from clipkit.images import worker

    worker._serve()
