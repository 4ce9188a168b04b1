"""What a hostile page, client or file cannot do."""

from __future__ import annotations

import io
import socket
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from server.conftest import running

TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def guarded(library_folder, quick):
    """A server with a token, low limits, and little patience."""
    settings = replace(
        quick,
        token=TOKEN,
        max_request_bytes=200_000,
        max_upload_pixels=1_000_000,
        body_seconds=1.5,
        header_seconds=1.5,
        allowed_hosts=("photos.example",),
    )
    with running(library_folder, settings) as server:
        yield server


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}", "X-Clipkit": "1"}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "", "a@b", "["])
def test_a_foreign_host_is_refused(server, host):
    answer = server.request("GET", "/api/info", headers={"Host": host.format(port=server.port)})
    assert answer.status in (400, 421) and b"images" not in answer.body


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1", "[::1]:{port}", "LOCALHOST"])
def test_the_names_of_this_machine_are_answered(server, host):
    assert server.request("GET", "/api/info", headers={"Host": host.format(port=server.port)}).status == 200


def test_an_allowed_host_is_answered(guarded):
    headers = bearer() | {"Host": "photos.example"}
    assert guarded.request("GET", "/api/info", headers=headers).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1"])
def test_a_foreign_origin_is_refused(server, origin):
    headers = {"Origin": origin, "X-Clipkit": "1"}
    assert server.request("POST", "/api/uploads", b"", headers).status == 403
    assert server.request("GET", "/api/info", headers=headers).status == 403


def test_requests_from_other_sites_are_refused_but_links_open_the_page(server):
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert server.request("GET", "/api/images/1/thumbnail", headers=foreign).status == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.request("GET", "/", headers=link).status != 403
    assert server.request("GET", "/api/info", headers=link).status == 403
    own = {"Sec-Fetch-Site": "same-origin", "Origin": server.url}
    assert server.request("GET", "/api/info", headers=own).status == 200


def test_what_changes_something_needs_the_header(server):
    assert server.request("POST", "/api/uploads", b"").json["type"] == "urn:clipkit:problem:header-missing"
    assert server.request("POST", "/api/search", b"", {"X-Clipkit": "0"}).status == 403


def test_no_other_site_is_ever_allowed(server):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (server.request("OPTIONS", "/api/uploads", headers=asked), server.get("/api/info")):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_every_answer_has_the_headers_of_caution(server):
    for path in ("/api/info", "/api/nothing", "/api/images/1/thumbnail", "/api/images/1/original", "/healthz"):
        headers = server.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_a_token_is_needed_in_one_form_or_the_other(guarded):
    assert guarded.get("/api/info").status == 401
    assert guarded.get("/healthz").status == 200
    assert guarded.get("/api/info", Authorization="Bearer wrong").status == 401
    assert guarded.get("/api/info", Authorization=f"Bearer {TOKEN}").status == 200
    assert guarded.get("/", {"token": "wrong"}).status == 401
    assert guarded.get("/api/info", {"token": TOKEN}).status == 401  # URLs of the API never carry it
    opened = guarded.get("/", {"token": TOKEN, "q": "a dog"})
    assert (opened.status, opened.headers["Location"]) == (303, "/?q=a+dog")
    cookie = opened.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    assert guarded.get("/api/info", Cookie=cookie.partition(";")[0]).status == 200
    assert guarded.get("/api/info", Cookie=cookie.partition("=")[0] + "=wrong").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/api/images/../../../../etc/passwd/original",
        "/api/images/..%2f..%2fetc%2fpasswd/original",
        "/api/images/%00/original",
        "/api/images/-1/original",
        "/api/images/1e3/original",
        "/api/images/99999999999999999999999/original",
        "/static/../application.py",
        "/static/%2e%2e/%2e%2e/application.py",
        "//etc/passwd",
    ],
)
def test_no_path_leads_to_a_file_that_is_not_in_the_catalog(server, path):
    assert server.get(path).status in (400, 404)


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(guarded):
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", guarded.port)) as raw:
        raw.sendall(
            f"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nX-Clipkit: 1\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000000\r\n\r\n".encode()
        )
        raw.settimeout(10)
        assert b" 413 " in raw.recv(4096)
    assert time.monotonic() - started < 10
    head = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n'
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (head, *8 * [bytes(60_000)]))
    with socket.create_connection(("127.0.0.1", guarded.port)) as raw:
        raw.sendall(
            f"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nX-Clipkit: 1\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        raw.settimeout(10)
        raw.sendall(chunked)
        assert b" 413 " in raw.recv(4096)


def test_a_client_that_sends_slowly_is_cut_off_and_stalls_nobody(guarded):
    slow = []
    for _ in range(20):
        raw = socket.create_connection(("127.0.0.1", guarded.port))
        raw.sendall(b"GET /api/info HTTP/1.1\r\nHost: local")
        slow.append(raw)
    body = socket.create_connection(("127.0.0.1", guarded.port))
    body.sendall(
        f"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nX-Clipkit: 1\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b".encode()
    )
    assert guarded.get("/api/search", {"q": "a dog"}, **{"Authorization": f"Bearer {TOKEN}"}).status == 200
    body.settimeout(30)
    assert b" 408 " in body.recv(4096)
    for raw in (*slow, body):
        raw.settimeout(30)
        while raw.recv(4096):
            pass
        raw.close()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "name, data",
    [
        ("bomb.png", bomb(60_000, 60_000)),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
        ("a.html", b"<html><script>alert(1)</script></html>"),
        ("empty.jpg", b""),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(2000)),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
    ],
)
def test_hostile_uploads_are_refused_and_not_kept(guarded, name, data):
    boundary = "b"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="{name}"\r\n\r\n'.encode()
        + data
        + f"\r\n--{boundary}--\r\n".encode()
    )
    headers = bearer() | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = guarded.request("POST", "/api/search", body, headers)
    assert answer.status == 422 and answer.json["type"] == "urn:clipkit:problem:unreadable-image"
    assert "/tmp" not in answer.json["detail"]
    folder = Path(guarded.app.state.services.uploads._folder.name)
    assert list(folder.iterdir()) == []


def test_a_form_that_is_none_is_a_problem_of_the_client(server):
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "application/json", ""):
        answer = server.request("POST", "/api/uploads", b"\x00garbage", {"X-Clipkit": "1", "Content-Type": kind})
        assert answer.status == 400
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/api/images/1/original", "http://[::1]/", "http://10.0.0.1/a.jpg"]
)
def test_urls_of_private_addresses_are_not_fetched(server, url):
    answer = server.get("/api/search", {"like": url.format(port=server.port)})
    assert (answer.status, answer.json["type"]) == (422, "urn:clipkit:problem:fetch-refused")


def test_uploads_go_when_there_is_no_room(library_folder, quick):
    with running(library_folder, replace(quick, upload_bytes=60_000)) as server:
        ids = []
        for number in range(8):
            out = io.BytesIO()
            Image.effect_noise((100, 100 + number), 90).save(out, "PNG")
            ids.append(
                server.upload("/api/uploads", [("picture", "a.png", out.getvalue())]).json["uploads"][0]["upload_id"]
            )
        assert server.get("/api/search", {"like": f"upload:{ids[-1]}"}).status == 200
        assert server.get("/api/search", {"like": f"upload:{ids[0]}"}).status == 404
