"""A real server: uvicorn on a real socket, in a thread, over a real library of the small model."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("uvicorn")

from clipkit.server.application import create_app
from clipkit.server.serving import listen, make_server
from clipkit.server.settings import ServerSettings


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A running server. `app`: its application, in this process."""

    port: int
    app: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, parameters: Any = None, **headers: str) -> Answer:
        query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
        return self.request("GET", path + query, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, data: Any, **headers: str) -> Answer:
        sent = {"X-Clipkit": "1", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, json.dumps(data).encode(), sent)

    def upload(self, path: str, files: list[tuple[str, str, bytes]], fields: dict[str, str] | None = None) -> Answer:
        """Send a multipart form: files as (field, file name, bytes)."""
        boundary = "a-boundary-that-no-file-contains"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in (fields or {}).items()
        ]
        for field, name, data in files:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
            parts.append(head.encode() + data + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return self.request("POST", path, body, {"X-Clipkit": "1", "Content-Type": kind})


@contextmanager
def running(library: Path, settings: ServerSettings) -> Iterator[Server]:
    """Run a server for a library; end it with the block."""
    listener = listen("127.0.0.1", settings.port or 0, any_port=False)
    settings = replace(settings, port=listener.getsockname()[1])
    app = create_app(library, settings=settings)
    started = threading.Event()
    server = make_server(app, settings, started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(60)
        yield Server(settings.port, app)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def library_folder(tmp_path_factory: pytest.TempPathFactory, indexed_scenes: Path) -> Path:
    """A library of 120 sample scenes; tests must not change it."""
    path = tmp_path_factory.mktemp("served") / "indexes" / "default"
    shutil.copytree(indexed_scenes / "default", path)
    return path


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> ServerSettings:
    """Settings for tests: any port, and an empty cache of thumbnails."""
    return ServerSettings(port=0, thumbnails=tmp_path_factory.mktemp("thumbnails"))


@pytest.fixture(scope="session")
def server(library_folder: Path, quick: ServerSettings) -> Iterator[Server]:
    """A server over `library_folder`, without a token."""
    with running(library_folder, quick) as server:
        yield server


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition and return its value; fail after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("nothing happened")
