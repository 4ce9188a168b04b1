"""Load `clipkit serve` on this machine: many clients at once, for a while; report errors, latency and memory.

    python scripts/load_server.py                       # a library of sample scenes, 200 clients, one minute
    python scripts/load_server.py --library FOLDER      # a library of your own

Every client searches, looks at thumbnails and facts of its hits, browses, and starts over: what a page does. Requests
that are told to wait (429) are repeated after the time that the server names, and counted. Exits with 1 if anything
failed: a request, an answer that was cut short, or the server itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import quote

import psutil

TEXTS = ["a dog", "a cat on the beach", "two birds", "at night", "a red car", "a tree in the snow", "a boat", "a cake"]
PATIENCE_S = 60.0


class Run:
    """What happened: times by kind of request in seconds, and errors."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.told_to_wait: Counter[str] = Counter()

    @property
    def answers(self) -> int:
        """How many requests were answered."""
        return sum(map(len, self.times.values()))


async def request(host: str, port: int, path: str) -> tuple[int, dict[str, str], bytes]:
    """Send one GET on a connection of its own, and return status, headers and body."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    if len(body) != int(headers.get("content-length", len(body))):
        raise EOFError
    return int(first.split()[1]), headers, body


async def timed(run: Run, place: tuple[str, int], kind: str, path: str) -> bytes:
    """Send a request, as often as the server asks to, and note how long the answer took."""
    while True:
        began = time.perf_counter()
        try:
            status, headers, body = await asyncio.wait_for(request(*place, path), PATIENCE_S)
        except (OSError, EOFError, TimeoutError, ValueError, IndexError) as error:
            run.errors[f"{kind}: {type(error).__name__}"] += 1
            return b""
        if status == 429:
            run.told_to_wait[kind] += 1
            await asyncio.sleep(float(headers.get("retry-after", 1)))
            continue
        if status != 200:
            run.errors[f"{kind}: {status}"] += 1
            return b""
        run.times[kind].append(time.perf_counter() - began)
        return body


async def client(run: Run, place: tuple[str, int], end: float, number: int) -> None:
    """Do what a page does, until the end."""
    rng = random.Random(number)
    await asyncio.sleep(rng.random())  # people do not come all in the same instant
    while time.monotonic() < end:
        body = await timed(run, place, "search", f"/api/search?q={quote(rng.choice(TEXTS))}&limit=60")
        hits = json.loads(body)["hits"] if body else []
        for hit in rng.sample(hits, min(4, len(hits))):
            await timed(run, place, "thumbnail", hit["thumbnail"])
        if hits:
            await timed(run, place, "image", f"/api/images/{rng.choice(hits)['id']}")
        await timed(run, place, "browse", f"/api/images?offset={rng.randrange(100)}&limit=60")
        await timed(run, place, "facets", "/api/facets")


def memory(process: psutil.Process) -> tuple[float, float]:
    """Return the memory of the server and of it with its children, in MB. Raises psutil.Error if it has ended."""
    own = process.memory_info().rss / 1e6
    children = 0.0
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            children += child.memory_info().rss / 1e6
    return own, own + children


def say_memory(when: str, process: psutil.Process) -> None:
    """Print the memory in use."""
    own, whole = memory(process)
    print(f"{when}: server {own:.0f} MB, with children {whole:.0f} MB", flush=True)


def sample_library(folder: Path, count: int) -> Path:
    """Make a library of sample scenes."""
    from clipkit import Library
    from clipkit.samples.photos import write_samples

    write_samples(folder / "photos", count, size=256)
    with Library.open_or_create(folder / "indexes" / "load", "tiny") as library:
        library.index([folder / "photos"])
    return folder / "indexes" / "load"


async def load(place: tuple[str, int], process: psutil.Process, clients: int, seconds: float) -> Run:
    """Run the clients, and print the memory every few seconds."""
    run = Run()
    # Warm up: load the model, start the child processes.
    await client(Run(), place, time.monotonic() + 1.5, -1)
    say_memory("before", process)
    began = time.monotonic()
    end = began + seconds
    tasks = [asyncio.create_task(client(run, place, end, number)) for number in range(clients)]
    while time.monotonic() < end:
        await asyncio.sleep(min(10, max(0.1, end - time.monotonic())))
        say_memory(f"{time.monotonic() - began:4.0f} s, {run.answers:>7} answers", process)
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if error is not None:
            run.errors[f"client: {type(error).__name__}"] += 1
    await asyncio.sleep(2)
    say_memory("after", process)
    return run


def report(run: Run, clients: int, seconds: float) -> None:
    """Print what happened."""
    waits = sum(run.told_to_wait.values())
    print(f"{clients} clients: {run.answers} answers in {seconds:.0f} s, {waits} told to wait, errors: ", end="")
    print(dict(run.errors) or "none")
    print(f"{'':10} {'answers':>8} {'waits':>8} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8}")
    for kind, times in sorted(run.times.items()):
        times.sort()
        p50, p95 = times[len(times) // 2], times[min(len(times) - 1, int(0.95 * len(times)))]
        numbers = f"{1000 * p50:>8.0f} {1000 * p95:>8.0f} {1000 * times[-1]:>8.0f}"
        print(f"{kind:10} {len(times):>8} {run.told_to_wait[kind]:>8} {numbers}")


def main() -> int:
    """Run the load and print the figures; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--library", type=Path, help="folder of a library; by default one of sample scenes is made")
    parser.add_argument("--pictures", type=int, default=1000, help="sample scenes in it")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = options.library or sample_library(Path(folder), options.pictures)
        command = [sys.executable, "-m", "clipkit", "serve", "--no-open", "--port", "0", "--name", library.name]
        command += ["--indexes", str(library.parent)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            address = server.stdout.readline()
            found = re.match(r"http://([^:/]+):(\d+)/", address)
            if not found:
                print("the server did not start", file=sys.stderr)
                return 1
            place = (found[1], int(found[2]))
            began = time.monotonic()
            try:
                run = asyncio.run(load(place, psutil.Process(server.pid), options.clients, options.seconds))
            except psutil.Error:
                print(f"the server ended with exit code {server.wait(30)}", file=sys.stderr)
                return 1
            seconds = time.monotonic() - began
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                print("the server did not stop when it was asked to", file=sys.stderr)
                server.kill()
                stopped = False
            else:
                stopped = True
    report(run, options.clients, seconds)
    return int(bool(run.errors) or not run.answers or not stopped)


if __name__ == "__main__":
    raise SystemExit(main())
