"""Start jobs that make pictures: everything that can be wrong is found before a job is accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clipkit.catalog.generated import EDITS
from clipkit.errors import BadQuery, DecoderNotAvailable
from clipkit.generation.decoder_files import on_disk
from clipkit.generation.job import choose_decoder
from clipkit.generation.painter import choose_painter
from clipkit.generation.registry import DecoderEntry, entries
from clipkit.library import Library
from clipkit.server.body import Body
from clipkit.server.job_pictures import JobPictures
from clipkit.server.jobs import Job
from clipkit.server.problems import JsonResponse, Problem
from clipkit.server.services import services_of

MAX_PICTURES = 64
"""Pictures of one job."""
LANE = "generate"

Prepare = Callable[[Library, JobPictures], dict[str, Any]]
"""Finds and checks the pictures of a job, and returns what the child needs to know of them."""


def read_sampling(body: Body) -> dict[str, Any]:
    """Return the options of `SamplingOptions` that a client gave."""
    options = {
        "seed": body.integer("seed", None, 0, 2**32 - MAX_PICTURES - 1),
        "guidance": body.number("guidance", None, 0, 100),
        "size": body.integer("size", None, 16, 4096),
        "decoder": body.text("decoder") or None,
        "label": body.flag("label"),
    }
    return {name: value for name, value in options.items() if value is not None}


def read_steps(body: Body, name: str = "steps") -> int | None:
    """Return the number of denoising steps, None for the decoder's own."""
    return body.integer(name, None, 1, 1000)


def read_count(body: Body, default: int = 1) -> int:
    """Return how many pictures to make."""
    return body.integer("n", default, 1, MAX_PICTURES) or default


async def start(request: Request, body: Body, kind: str, job: dict[str, Any], prepare: Prepare) -> Response:
    """Queue a job that makes pictures, and answer with its id.

    `job`: as the functions of `picture_work` take it; what `prepare` returns is added.
    """
    services = services_of(request)
    body.check_all_known()

    def check() -> tuple[JobPictures, dict[str, Any]]:
        with services.library_pool.library() as library:
            library.catalog.require_writable()
            pictures = JobPictures(library, services.uploads, services.decoders)
            try:
                return pictures, prepare(library, pictures)
            except BaseException:
                pictures.release()
                raise

    services.used_decoders()
    pictures, found = await services.pictures.run(request, check)
    wanted = {"kind": kind, "device": services.settings.device, **job, **found}
    try:
        return started(services.jobs.start(kind, wanted, lane=LANE, ended=pictures.release))
    except Problem:
        pictures.release()
        raise


def started(job: Job) -> Response:
    """Return the answer to a request that started a job."""
    place = f"/api/jobs/{job.id}"
    answer = {"job": job.id, "events": f"{place}/events"}
    return JsonResponse(answer, 202, headers={"Cache-Control": "no-store", "Location": place})


def decoder_for(operation: str, name: str | None, library: Library) -> DecoderEntry:
    """Return the decoder that an operation will use.

    Only those of the registry that are on this machine: clients name no folders and start no downloads.
    Raises BadQuery, DecoderNotAvailable.
    """
    if name is None:
        if operation in EDITS:
            return choose_painter({"catalog": library.catalog, "layout": library.layout})[0]
        return choose_decoder(library.catalog, library.layout, None)
    entry = next((entry for entry in entries() if entry.id == name), None)
    if entry is None:
        raise BadQuery(f"there is no decoder {name[:80]!r}; `clipkit decoders list` lists them")
    if not on_disk(entry):
        raise DecoderNotAvailable(
            f"the decoder {entry.id} is not on this machine; `clipkit decoders pull {entry.id}` downloads it"
        )
    return entry
