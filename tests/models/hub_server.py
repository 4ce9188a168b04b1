"""A local model hub: an HTTP server with the endpoints that huggingface_hub uses.

HEAD, GET /OWNER/NAME/resolve/REVISION/FILE    large files redirect to /cdn/SHA256, which supports ranges
GET       /api/models/OWNER/NAME/revision/main files with sizes and checksums
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = hashlib.sha1(b"a commit").hexdigest()
LARGE = 100_000
"""Size in bytes from which files are served like the hub's large ones: by SHA-256, from another path."""


class Hub:
    """A hub with `repositories`: OWNER/NAME -> file -> bytes, or the path of a file. Attributes simulate failures."""

    def __init__(self, repositories: dict[str, dict[str, bytes | Path]]) -> None:
        self.repositories = repositories
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range
        self.agents: set[str] = set()  # User-Agent headers
        self.sent = 0  # bytes of file content
        self.cut_after: int | None = None  # interrupt large files there, and answer 503 afterwards
        self.broken = False
        self.private: set[str] = set()
        self.other_bytes: dict[str, bytes] = {}  # file -> content to serve instead, under the original checksum
        self._digests: dict[tuple[str, str], tuple] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.other_host = f"http://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def content(self, repository: str, name: str) -> bytes:
        held = self.repositories[repository][name]
        return held.read_bytes() if isinstance(held, Path) else held

    def digest(self, repository: str, name: str) -> str:
        """Return the SHA-256 of a large file, git's SHA-1 of a small one."""
        held = self.repositories[repository][name]
        if self._digests.get((repository, name), (None,))[0] is not held:
            content = self.content(repository, name)
            digest = hashlib.sha256(content)
            if len(content) < LARGE:
                digest = hashlib.sha1(f"blob {len(content)}\0".encode() + content)
            self._digests[repository, name] = held, digest.hexdigest()
        return self._digests[repository, name][1]

    def fetched(self, what: str = "") -> list[tuple[str, str, str]]:
        """Return the GET requests for files whose path contains `what`."""
        return [r for r in self.requests if r[0] == "GET" and "/api/" not in r[1] and what in r[1]]


def _handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range", "")))
            hub.agents.add(self.headers.get("User-Agent", ""))
            if hub.broken:
                return self.fail(503)
            if match := re.fullmatch(r"/api/models/(.+?)/revision/(.+)", path):
                return self.listing(match[1])
            if match := re.fullmatch(r"/cdn/(\w+)", path):
                return self.large(match[1], body)
            match = re.fullmatch(r"/(.+?)/resolve/(\w+)/(.+)", path)
            if not match or match[3] not in hub.repositories.get(match[1], {}):
                return self.fail(404, "EntryNotFound" if match and match[1] in hub.repositories else "RepoNotFound")
            repository, name = match[1], match[3]
            content, digest = hub.content(repository, name), hub.digest(repository, name)
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            if len(digest) == 64:
                headers |= {"X-Linked-Etag": f'"{digest}"', "Location": f"{hub.other_host}/cdn/{digest}"}
                return self.send(302, b"", headers, body)
            self.send(200, hub.other_bytes.get(name, content), headers, body)

        def listing(self, repository: str) -> None:
            if repository in hub.private:
                return self.fail(401, "RepoNotFound")
            if repository not in hub.repositories:
                return self.fail(404, "RepoNotFound")
            siblings = []
            for name in hub.repositories[repository]:
                digest, size = hub.digest(repository, name), len(hub.content(repository, name))
                row = {"rfilename": name, "size": size, "blobId": digest if len(digest) == 40 else "0" * 40}
                if len(digest) == 64:
                    row["lfs"] = {"sha256": digest, "size": size, "pointerSize": 130}
                siblings.append(row)
            answer = {"id": repository, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
            self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, True)

        def large(self, digest: str, body: bool) -> None:
            repository, name = next(
                (r, n) for r, files in hub.repositories.items() for n in files if hub.digest(r, n) == digest
            )
            content = hub.other_bytes.get(name, hub.content(repository, name))
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(wanted[1]) if wanted else 0
            headers = {"ETag": f'"{digest}"'}
            if wanted:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206 if wanted else 200, content[start:], headers, body, hub.cut_after)

        def send(self, status, content, headers, body, cut=None) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            if cut is not None:
                content, hub.broken, self.close_connection = content[:cut], True, True
            hub.sent += len(content) if status != 200 or "Content-Type" not in headers else 0
            self.wfile.write(content)
            self.wfile.flush()

        def fail(self, status: int, code: str = "") -> None:
            self.send(status, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT}, False)

    return Handler
