"""HTTP to a server: one kept connection, uploads, jobs and their events, and problems as errors."""

from __future__ import annotations

import http.client
import io
import json
import os
import secrets
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from clipkit import errors
from clipkit.errors import ClipkitError, UnreadableImage
from clipkit.generation.operations.masks import as_image
from clipkit.images.file_access import open_regular
from clipkit.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

_PREFIX = "urn:clipkit:problem:"


class ServerError(ClipkitError):
    """A server refused a request, cannot be reached, or does not speak clipkit's API.

    `status`: of the answer; 0 without one. `kind`: the last part of the problem's type.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Transport:
    """The connection to one server. See `Client` for the arguments."""

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        given = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(given)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https"):
            raise ServerError(f"{url!r} is not the address of a server; write it as http://127.0.0.1:8000")
        in_url = [value for name, _, value in (p.partition("=") for p in parts.query.split("&")) if name == "token"]
        self._token = token or (in_url[0] if in_url else os.environ.get("CLIPKIT_TOKEN"))
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._base, self._timeout = parts.path.rstrip("/"), timeout
        self._open: Callable[[float | None], http.client.HTTPConnection]
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._open = lambda seconds: http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
        else:
            self._open = lambda seconds: http.client.HTTPConnection(host, port, timeout=seconds)
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def upload(self, picture: str | Path | bytes | Image | np.ndarray) -> str:
        """Send a picture of this machine, and return the id of the upload. Raises UnreadableImage."""
        if isinstance(picture, str | Path):
            path = Path(picture)
            with open_regular(path)[0] as file:
                data = file.read()
        else:
            path, data = Path("picture"), picture if isinstance(picture, bytes) else _as_png(picture)
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="picture"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        try:
            answer = self.request("POST", "/api/uploads", body, kind)
        except ServerError as error:
            if error.kind == "unreadable-image":
                reason = str(error).removeprefix("the picture cannot be used: ")
                raise UnreadableImage(path, "unreadable", reason) from None
            raise
        return json.loads(answer)["uploads"][0]["upload_id"]

    def run_job(self, path: str, body: dict[str, Any], progress: ProgressCallback | None) -> dict[str, Any]:
        """Start a job, follow it to its end, and return the result; interrupting it cancels the job."""
        started = json.loads(
            self.request("POST", path, json.dumps(body).encode("ascii"), {"Content-Type": "application/json"})
        )
        try:
            for name, data in self._events(started["events"]):
                if name == "progress" and progress and data["stage"] != "starting":
                    progress(Progress(data["stage"], data["done"], data["total"], data["rate"]))
                elif name == "done":
                    return data
                elif name == "failed":
                    raise _error(data, data.get("status", 0))
                elif name == "cancelled":
                    raise ServerError("the job was cancelled on the server", kind="cancelled")
            raise ServerError(f"{self.url} ended the job without a result", kind="gone")
        except BaseException as error:
            if not isinstance(error, ClipkitError):
                self.request("DELETE", f"/api/jobs/{quote(started['job'])}")
            raise

    def _events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (name, data) of the events of a job, on a connection of its own."""
        with self._reaching():
            connection = self._open(None)  # a job may be silent for longer than any timeout
            try:
                connection.request("GET", self._base + path, headers=self._headers())
                response = connection.getresponse()
                if response.status != 200:
                    raise _problem(response.status, response.read())
                name = ""
                for line in response:
                    key, _, value = line.decode("utf-8").rstrip("\r\n").partition(": ")
                    if key == "event":
                        name = value
                    elif key == "data":
                        yield name, json.loads(value)
            finally:
                connection.close()

    def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        """Return the JSON object at a path; empty parameters are left out."""
        query = urlencode([(name, value) for name, value in parameters if value], errors="surrogateescape")
        try:
            return json.loads(self.request("GET", f"{path}?{query}" if query else path))
        except ValueError as error:
            raise ServerError(f"{self.url} does not speak clipkit's API") from error

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """Return the body of the answer. Raises ClipkitError for a problem."""
        with self._reaching():
            for attempt in range(2):
                fresh = self._connection is None
                self._connection = self._connection or self._open(self._timeout)
                try:
                    self._connection.request(method, self._base + path, body, {**self._headers(), **(headers or {})})
                    response = self._connection.getresponse()
                    data = response.read()
                    break
                except (ConnectionError, http.client.RemoteDisconnected):
                    self.close()
                    if fresh or attempt:  # a kept connection may have been closed meanwhile
                        raise
            if response.status >= 300:
                raise _problem(response.status, data)
            return data

    def _headers(self) -> dict[str, str]:
        headers = {"X-Clipkit": "1", "Accept": "*/*"}
        return headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ServerError(f"{self.url} cannot be reached ({reason}); does `clipkit serve` run there?") from error


def _as_png(picture: Image | np.ndarray) -> bytes:
    image, out = as_image(picture), io.BytesIO()
    (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(out, "PNG")
    return out.getvalue()


def _problem(status: int, body: bytes) -> ClipkitError:
    try:
        data = json.loads(body)
    except ValueError:
        data = {}
    return _error(data if isinstance(data, dict) else {}, status)


def _error(data: dict[str, Any], status: int) -> ClipkitError:
    """Return the error of `Library` that the server's problem stands for, or a ServerError."""
    kind = str(data.get("type", "")).removeprefix(_PREFIX)
    detail = str(data.get("detail") or data.get("title") or f"the server answered {status}")
    name = "".join(part.capitalize() for part in kind.split("-"))
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, ClipkitError) and found is not UnreadableImage:
        return found(detail)
    return ServerError(detail, status, kind)
