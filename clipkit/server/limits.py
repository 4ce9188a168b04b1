"""What keeps one client from stalling the others: sizes, times, and a bounded queue for each kind of work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipkit.server.problems import Problem, problem_response
from clipkit.server.settings import ServerSettings

T = TypeVar("T")


_CLOSE = {"Connection": "close"}  # the rest of the request would be taken for the next one


class Gate:
    """Runs functions in threads, `running` at once; `waiting` more wait, for at most `seconds`, and others get 429."""

    def __init__(self, running: int, waiting: int, seconds: float) -> None:
        self.waiting_most, self._seconds = waiting, seconds
        self._slots = anyio.CapacityLimiter(running)
        self._threads = anyio.CapacityLimiter(running)

    async def run(self, request: Request, function: Callable[[], T]) -> T:
        """Return what the function returns. Raises Problem 429, or what the function raises."""
        if self.waiting >= self.waiting_most:
            raise _too_busy()
        with anyio.move_on_after(self._seconds) as wait:
            await self._slots.acquire()
        if wait.cancelled_caught:
            raise _too_busy()
        try:
            if await request.is_disconnected():  # it has asked for something else meanwhile
                raise ClientGone
            return await anyio.to_thread.run_sync(function, limiter=self._threads)
        finally:
            self._slots.release()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._slots.statistics().tasks_waiting

    @property
    def running(self) -> int:
        """How many run."""
        return self._slots.statistics().borrowed_tokens


class ClientGone(Exception):
    """The client has closed the connection while its request waited: nobody reads an answer."""


class Limits:
    """ASGI middleware that bounds the body of a request, the time to send it, and the time to take the answer."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        settings = self.settings
        request = Request(scope)
        has_files = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
        most = settings.max_request_bytes if has_files else settings.max_json_bytes
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            await problem_response(_too_large(most))(scope, receive, send)
            return
        deadline = time.monotonic() + settings.body_seconds
        received, complete, started = 0, False, False

        async def bounded_receive() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # waits for the client to go
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise Problem(
                    408, "too-slow", f"the request was not complete after {settings.body_seconds:g} seconds", _CLOSE
                ) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > most:
                raise _too_large(most)
            return message

        async def bounded_send(message: Message) -> None:
            nonlocal started
            started = True
            try:
                async with asyncio.timeout(settings.send_seconds):
                    await send(message)
            except TimeoutError:
                raise ClientGone from None

        try:
            await self.app(scope, bounded_receive, bounded_send)
        except ClientGone:
            if not started:
                await problem_response(Problem(408, "too-slow", "the client has gone"))(scope, receive, send)


def _too_large(most: int) -> Problem:
    return Problem(413, "too-large", f"the request is larger than {most:,} bytes", _CLOSE)


def _too_busy() -> Problem:
    return Problem(429, "too-busy", "too many requests at once; try again in a moment", {"Retry-After": "2"})
