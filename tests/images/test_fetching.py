from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from clipkit.errors import FetchRefused
from clipkit.images import fetching
from clipkit.images.decoding import open_picture
from clipkit.images.fetching import fetch

from .make_files import corners, encoded

PICTURE = encoded(corners(), "PNG")


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/picture.png" or path.startswith("/sp"):
            self.answer(PICTURE, "image/png")
        elif path == "/page":
            self.answer(b"<html>", "text/html; charset=utf-8")
        elif path == "/host":
            self.answer(self.headers["Host"].encode(), "text/plain")
        elif path.startswith("/hop/"):
            left = int(path[5:])
            self.redirect(f"/hop/{left - 1}" if left else "/picture.png")
        elif path == "/to":
            self.redirect(self.path.split("?")[1])
        elif path == "/huge":
            self.send_response(200)
            self.send_header("Content-Length", str(10**12))
            self.end_headers()
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            while self.write(bytes(10_000)):
                pass
        elif path == "/drip":
            self.send_response(200)
            self.end_headers()
            while self.write(b"x"):
                time.sleep(0.05)
        elif path == "/drip-headers":
            self.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
            while self.write(b"x"):
                time.sleep(0.05)
        elif path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "500")
            self.end_headers()
            self.write(b"x" * 20)
        elif path == "/gzip":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
        elif path == "/nonsense":
            self.write(b"\x00\x01 hello\r\n\r\n")
        else:
            self.send_error(404)

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.write(body)

    def redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def write(self, data: bytes) -> bool:
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def refusal(url: str, **options: object) -> str:
    with pytest.raises(FetchRefused) as caught:
        fetch(url, **({"allow_private": True} | options))
    message = str(caught.value)
    assert message and len(message.splitlines()) == 1
    return message


def test_a_picture_is_downloaded_completely(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert open_picture(fetch(f"{server}/picture.png?a=b#c", allow_private=True)).width == 96
    assert fetch(f"{server}/hop/4", allow_private=True) == PICTURE
    assert fetch(f"{server}/sp ace/\N{LATIN SMALL LETTER E WITH ACUTE}", allow_private=True) == PICTURE
    assert fetch(f"{server}/host", allow_private=True).decode() == server.removeprefix("http://")
    by_name = server.replace("127.0.0.1", "localhost")
    if socket.gethostbyname("localhost") == "127.0.0.1":
        assert fetch(f"{by_name}/host", allow_private=True).decode() == by_name.removeprefix("http://")


def test_private_addresses_are_refused_before_connecting(server: str) -> None:
    hosts = "127.0.0.1 localhost 10.0.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1 127.1 2130706433"
    hosts += " [::1] [::ffff:127.0.0.1] [::ffff:a00:1] [64:ff9b::7f00:1] [2002:7f00:1::] [fe80::1] [fd00::1]"
    for host in hosts.split():
        assert "private or local address" in refusal(f"http://{host}:1/x", allow_private=False), host


def test_redirects_to_private_addresses_are_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first hop is treated as public; the second must be checked again.
    public = fetching._is_public
    monkeypatch.setattr(fetching, "_is_public", lambda address: address == "127.0.0.1" or public(address))
    message = refusal(f"{server}/to?http://127.0.0.2:1/secret", allow_private=False)
    assert "127.0.0.2" in message and "private or local" in message
    assert "only http" in refusal(f"{server}/to?file:///etc/passwd")


def test_it_connects_to_the_address_that_was_checked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rebinding(host: str, port: int, **_: object) -> list:
        asked.append(host)  # first a public address, then, if asked again, a private one
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.9"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    original = socket.getaddrinfo
    port = int(server.rpartition(":")[2])
    monkeypatch.setattr(fetching, "_is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(
        fetching.socket,
        "getaddrinfo",
        lambda host, *rest, **more: (
            rebinding(host, *rest[:1]) if host == "pictures.example" else original(host, *rest, **more)
        ),
    )
    assert fetch(f"http://pictures.example:{port}/host") == f"pictures.example:{port}".encode()
    assert asked == ["pictures.example"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.example/x",
        "data:,x",
        "http://",
        "x.jpg",
        "http://[::1",
        "http://a:99999/",
        "http://user:pw@a.example/",
        "http://a\nb/",
        "",
    ],
)
def test_invalid_urls(url: str) -> None:
    message = refusal(url)
    assert "pw" not in message


def test_sizes(server: str) -> None:
    assert "1,000,000,000,000 bytes" in refusal(f"{server}/huge")
    assert "more than 50,000 bytes" in refusal(f"{server}/endless", max_bytes=50_000)
    assert len(fetch(f"{server}/picture.png", max_bytes=len(PICTURE), allow_private=True)) == len(PICTURE)
    refusal(f"{server}/picture.png", max_bytes=len(PICTURE) - 1)
    assert "20 of 500 bytes" in refusal(f"{server}/short")


@pytest.mark.parametrize("path", ["drip", "drip-headers"])
def test_slow_servers_time_out(server: str, path: str) -> None:
    started = time.monotonic()
    assert "not finished within 0.6 seconds" in refusal(f"{server}/{path}", timeout=0.6)
    assert time.monotonic() - started < 3


def test_a_silent_server_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "not finished within" in refusal(f"http://127.0.0.1:{port}/", timeout=0.4)
        assert "not finished within" in refusal(f"https://127.0.0.1:{port}/", timeout=0.4)


def test_other_responses(server: str) -> None:
    assert "more than 5 redirects" in refusal(f"{server}/hop/9")
    assert "404" in refusal(f"{server}/none")
    assert "page" in refusal(f"{server}/page")
    assert "gzip" in refusal(f"{server}/gzip")
    refusal(f"{server}/nonsense")
    refusal("http://127.0.0.1:9/")
    assert "unknown host" in refusal("http://no-such-host.invalid/")
    assert "secret" not in refusal(f"{server}/none?key=secret")
