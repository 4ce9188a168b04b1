"""Download a picture from a URL that the user gave, within limits.

It uses `http.client` from the standard library, which connects to exactly the address it is given, so that the address
that was checked is the one that is used. It also does nothing unasked: no proxies, netrc, cookies or redirects.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from urllib.parse import urljoin, urlsplit

from clipkit.errors import FetchRefused

_CHUNK_BYTES = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "clipkit", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}


def fetch(
    url: str,
    *,
    max_bytes: int = 50 * 1024 * 1024,
    timeout: float = 20.0,
    max_redirects: int = 5,
    allow_private: bool = False,
) -> bytes:
    """Download the bytes of an http or https URL.

    `timeout` covers everything, in seconds: DNS, connections, redirects and transfer. Unless `allow_private`, every
    address on the way must be public.

    Raises `FetchRefused` with a one-line reason. It does not check whether the bytes are a picture.
    """
    deadline = time.monotonic() + timeout
    place = url
    for _ in range(max_redirects + 1):
        body, place = _visit(place, max_bytes, deadline, timeout, allow_private)
        if body is not None:
            return body
    raise FetchRefused(f"{_shown(url)}: more than {max_redirects} redirects")


def _visit(url: str, max_bytes: int, deadline: float, timeout: float, allow_private: bool) -> tuple[bytes | None, str]:
    """Make one request; return (body, URL), or (None, URL of the redirect)."""
    secure, host, port, target = _parts(url)
    shown = _shown(url)
    too_slow = FetchRefused(f"{shown}: not finished within {timeout:g} seconds")
    address = _resolve(host, port, deadline, shown, too_slow, allow_private)
    connection = _Connection(host, port, address, secure, deadline)
    # Socket timeouts apply per read; this timer also stops a server that sends a byte a second.
    clock = threading.Timer(max(0.0, deadline - time.monotonic()), connection.abort)
    clock.daemon = True
    clock.start()
    try:
        connection.request("GET", target, headers=_HEADERS)
        with connection.getresponse() as response:
            if response.status in _REDIRECTS:
                location = response.getheader("Location")
                if not location:
                    raise FetchRefused(f"{shown}: the redirect has no target")
                return None, _join(url, location)
            if response.status != 200:
                answer = f"{response.status} {_printable(response.reason)}".rstrip()
                raise FetchRefused(f"{shown}: the server answered {answer}")
            _check_headers(response, shown, max_bytes)
            body = _read_body(response, shown, max_bytes)
    except FetchRefused:
        raise
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # AttributeError: raised by http.client when the timer closes its socket
        if connection.aborted or isinstance(error, TimeoutError) or time.monotonic() >= deadline:
            raise too_slow from error
        raise FetchRefused(f"{shown}: {_printable(str(error) or type(error).__name__)}") from error
    finally:
        clock.cancel()
        connection.close()
    if connection.aborted:  # an aborted connection may look like a normal end of data
        raise too_slow
    return body, url


def _check_headers(response: http.client.HTTPResponse, shown: str, max_bytes: int) -> None:
    if response.length is not None and response.length > max_bytes:
        raise FetchRefused(f"{shown}: it has {response.length:,} bytes; the limit is {max_bytes:,}")
    encoding = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":  # decompression bombs are more likely than compressed pictures
        raise FetchRefused(f"{shown}: the server sent it compressed ({_printable(encoding)}), which was not requested")
    kind = response.headers.get_content_type()
    if "Content-Type" in response.headers and kind.startswith("text/") and kind != "text/plain":
        raise FetchRefused(f"{shown}: it is a web page ({_printable(kind)}), not a picture")


def _read_body(response: http.client.HTTPResponse, shown: str, max_bytes: int) -> bytes:
    expected = response.length
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise FetchRefused(f"{shown}: it has more than {max_bytes:,} bytes")
    if expected is not None and len(body) < expected:
        raise FetchRefused(f"{shown}: the connection closed after {len(body):,} of {expected:,} bytes")
    return bytes(body)


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to a fixed address, whatever the host name resolves to now."""

    def __init__(self, host: str, port: int, address: str, secure: bool, deadline: float) -> None:
        super().__init__(host, port)
        self.default_port = 443 if secure else 80  # so that the Host header has a port only if it needs one
        self._address, self._secure, self._deadline = address, secure, deadline
        self._raw: socket.socket | None = None
        self.aborted = False

    def connect(self) -> None:
        remaining = max(0.001, self._deadline - time.monotonic())
        self._raw = self.sock = socket.create_connection((self._address, self.port), remaining)
        if self._secure:
            self._raw = self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        self.aborted = True
        if self._raw is not None:
            # Shut down the plain socket, under TLS too, to wake a handshake or read that blocks in another thread.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._raw, socket.SHUT_RDWR)


def _resolve(host: str, port: int, deadline: float, shown: str, too_slow: FetchRefused, allow_private: bool) -> str:
    """Return the first address of a host; refuse it if any of its addresses is not public."""
    answers: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([str(entry[4][0]) for entry in found])
        except (OSError, UnicodeError) as error:
            answers.put(error)

    # getaddrinfo has no timeout, so it runs in a thread that may be abandoned.
    threading.Thread(target=ask, daemon=True).start()
    try:
        addresses = answers.get(timeout=max(0.001, deadline - time.monotonic()))
    except queue.Empty:
        raise too_slow from None
    if isinstance(addresses, Exception) or not addresses:
        raise FetchRefused(f"{shown}: unknown host {_printable(host)}")
    for address in addresses:
        if not allow_private and not _is_public(address):
            raise FetchRefused(f"{shown}: {_printable(host)} is a private or local address ({address})")
    return addresses[0]


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        # IPv4 embedded in IPv6: ::ffff:10.0.0.1, 6to4 2002:0a00:0001::, NAT64 64:ff9b::10.0.0.1, Teredo
        if parsed in ipaddress.ip_network("64:ff9b::/96"):
            inner: ipaddress.IPv4Address | None = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        else:
            inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return parsed.is_global and not parsed.is_multicast


def _parts(url: str) -> tuple[bool, str, int, str]:
    """Split a URL into (secure, host, port, request target)."""
    try:
        split = urlsplit(url.strip())
        host, port = split.hostname, split.port
        if split.scheme.lower() not in ("http", "https"):
            raise FetchRefused(f"{_shown(url)}: only http and https URLs are supported")
        if not host:
            raise FetchRefused(f"{_shown(url)}: it has no host")
        if split.username is not None or split.password is not None:
            raise FetchRefused(f"{_shown(url)}: URLs with a user name or password are not supported")
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError) as error:
        raise FetchRefused(f"{_shown(url)}: it is not a valid URL") from error
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    secure = split.scheme.lower() == "https"
    return secure, host, port or (443 if secure else 80), _escaped(target)


def _escaped(target: str) -> str:
    """Percent-encode characters that a request line may not contain; leave existing escapes alone."""
    return "".join(c if "!" <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode("utf-8", "replace")) for c in target)


def _join(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise FetchRefused(f"{_shown(url)}: it redirects to something that is not a URL") from error


def _shown(url: str) -> str:
    """Return a URL for messages: on one line, without its query and credentials, and truncated."""
    clean = _printable(url.split("?", 1)[0].split("#", 1)[0])
    scheme, separator, rest = clean.partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path if separator else clean


def _printable(text: str) -> str:
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= 200 else line[:199] + "\N{HORIZONTAL ELLIPSIS}"
