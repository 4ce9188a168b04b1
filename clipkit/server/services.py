"""What the routes of one server share: the library, child processes, caches, and the queues in front of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import Request

from clipkit.cores import available_cores
from clipkit.images.decode_pool import DecodePool
from clipkit.images.limits import Limits
from clipkit.images.preprocessing import Preprocessing
from clipkit.server.answers import generated_links
from clipkit.server.jobs import Jobs, Lane
from clipkit.server.library_pool import LibraryPool
from clipkit.server.limits import Gate
from clipkit.server.metrics import Metrics
from clipkit.server.settings import ServerSettings
from clipkit.server.thumbnails import Thumbnails
from clipkit.server.uploads import Uploads

DECODE_SECONDS = 30.0
"""A child that takes longer for a picture is killed."""
_LOOK_AGAIN_S = 30.0

_NO_MODEL = Preprocessing(1, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Services:
    """The parts of a running server.

    `search`, `catalog`, `pictures`, `thumbnailing`: the queues for searches, for what only reads the catalog, for query
    pictures that are fetched and decoded, and for thumbnails. None of them waits for another.
    """

    def __init__(self, library: Path, settings: ServerSettings) -> None:
        self.settings = settings
        cores = available_cores()
        self.library_pool = LibraryPool(library, most_idle=settings.searches + 4)
        decoders, strangers = min(4, max(2, cores)), 2
        # Uploads and downloads have children of their own, with lower limits: a hostile one stalls no thumbnail.
        self.decoders = DecodePool(decoders, _NO_MODEL, timeout=DECODE_SECONDS)
        limits = Limits(pixels=settings.max_upload_pixels, bytes=settings.max_request_bytes)
        self.guarded_decoders = DecodePool(strangers, _NO_MODEL, limits, timeout=DECODE_SECONDS)
        self.uploads = Uploads(self.guarded_decoders, most_bytes=settings.upload_bytes, seconds=settings.upload_seconds)
        self.thumbnails = Thumbnails(settings.thumbnails, self.decoders, settings.thumbnail_bytes)

        def gate(running: int) -> Gate:
            return Gate(running, settings.queue, settings.queue_seconds)

        self.search, self.catalog, self.pictures = gate(settings.searches), gate(4), gate(8)
        self.thumbnailing = gate(2 * decoders)
        # One child generates and stays warm; the other indexes and is gone when it is done.
        lanes = {
            "generate": Lane(library, keep=True, prepare=_with_links),
            "index": Lane(library, keep=False, after=self._see_new_pictures),
        }
        self.metrics = Metrics()
        self.jobs = Jobs(lanes, settings.max_jobs)
        self.started = time.time()
        self._last_decoded = time.monotonic()

    async def _see_new_pictures(self) -> None:
        """Load what was indexed before anybody hears that it is done."""

        def refresh() -> None:
            with self.library_pool.library() as library:
                self.library_pool.searchers.refresh(library.catalog)

        await anyio.to_thread.run_sync(refresh)

    def used_decoders(self) -> None:
        """Note that a child process was needed."""
        self._last_decoded = time.monotonic()

    async def let_go_of_idle(self) -> None:
        """Free, again and again, models and child processes that nobody uses."""
        seconds = self.settings.idle_seconds
        while True:
            await asyncio.sleep(min(_LOOK_AGAIN_S, max(0.1, seconds / 4)))
            await anyio.to_thread.run_sync(self.library_pool.release_idle, seconds)
            await self.jobs.end_idle(seconds)
            if time.monotonic() - self._last_decoded > seconds:
                for pool in (self.decoders, self.guarded_decoders):
                    await anyio.to_thread.run_sync(pool.end_idle)

    def close(self) -> None:
        """End everything."""
        for pool in (self.decoders, self.guarded_decoders):
            with contextlib.suppress(Exception):
                pool.close()
        self.uploads.close()
        self.library_pool.close()


def _with_links(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Add to what a job says about generated pictures where a client finds them."""
    if name == "picture":
        return generated_links(data)
    if name == "done":
        strip = {"strip": generated_links(data["strip"])} if data.get("strip") else {}
        return {**data, "generated": [generated_links(picture) for picture in data["generated"]], **strip}
    return data


def services_of(request: Request) -> Services:
    """Return the services of the server that a request came to."""
    return request.app.state.services
