"""Run a server: find a port, listen, and end cleanly."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clipkit.errors import ClipkitError
from clipkit.server.application import create_app
from clipkit.server.settings import ServerSettings

PORTS_TRIED = 50


def serve(
    library: Path,
    settings: ServerSettings,
    *,
    any_port: bool = True,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a library until the process is told to stop.

    `any_port`: take the next free port if that of the settings is taken.
    `ready`: called with the address, token included, once the server listens.

    Without a token one is made up for an address that other machines can reach.
    Raises ClipkitError if there is no free port, LibraryNotFound, LibraryDamaged.
    """
    listener = listen(settings.host, settings.port, any_port=any_port)
    try:
        settings = replace(settings, port=listener.getsockname()[1])
        if not settings.is_loopback and not settings.token:
            settings = replace(settings, token=secrets.token_urlsafe(24))
        app = create_app(library, settings=settings)
        server = make_server(app, settings, (lambda: ready(address_of(settings))) if ready else None)
        server.run(sockets=[listener])
    finally:
        listener.close()


def listen(host: str, port: int, *, any_port: bool) -> socket.socket:
    """Return a socket that is bound, but does not listen yet. Raises ClipkitError."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ClipkitError(f"{host!r} is not an address of this machine") from None
    for number in range(port, min(65536, port + PORTS_TRIED) if any_port and port else port + 1):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((place[0], number, *place[2:]))
            listener.listen(2048)
            return listener
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ClipkitError(f"cannot listen on {host}: {error.strerror or error}") from None
            reason = error.strerror or str(error)
    raise ClipkitError(f"port {port} of {host} cannot be used ({reason}); choose another with --port")


def address_of(settings: ServerSettings) -> str:
    """Return the URL to open, token included."""
    host = settings.host
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = socket.gethostname()
        elif address.version == 6:
            host = f"[{host}]"
    return f"http://{host}:{settings.port}/" + (f"?token={settings.token}" if settings.token else "")


def make_server(app: Any, settings: ServerSettings, ready: Callable[[], None] | None = None) -> uvicorn.Server:
    """Return a server for the application; `run(sockets=[...])` runs it."""
    config = uvicorn.Config(
        app,
        http=_protocol(settings),
        ws="none",
        log_level="warning",
        access_log=False,  # it would write what people search for, and the token
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=32 * 1024,
    )
    server = _Server(config)
    server.ready = ready
    return server


class _Server(uvicorn.Server):
    ready: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.ready:
            self.ready()


def _protocol(settings: ServerSettings) -> type[asyncio.Protocol]:
    class TimedProtocol(H11Protocol):
        """Closes a connection whose client does not send the head of its first request in time."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(settings.header_seconds, self._close_if_silent)

        def _close_if_silent(self) -> None:
            # Later requests have the keep-alive timeout.
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return TimedProtocol
