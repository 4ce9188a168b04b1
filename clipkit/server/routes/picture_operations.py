"""Operations on pictures: variations, blends, text diffs, edits and extensions, as jobs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clipkit.errors import BadQuery
from clipkit.generation.job import check_abilities
from clipkit.generation.operations.blend import shares_of, way
from clipkit.generation.operations.extend import check_sides, extended_size
from clipkit.generation.operations.masks import check_shape, clipped
from clipkit.generation.operations.restyle import STRENGTH, check_change
from clipkit.generation.registry import DecoderEntry
from clipkit.library import Library
from clipkit.searching.query import has_words
from clipkit.server.body import Body, read_body
from clipkit.server.job_pictures import JobPictures
from clipkit.server.parameters import PictureRef
from clipkit.server.picture_jobs import MAX_PICTURES, decoder_for, read_count, read_sampling, read_steps, start
from clipkit.server.services import services_of

MAX_ADDED = 4096
"""Pixels that are added on one side."""


async def vary(request: Request) -> Response:
    """Start making variations of a picture."""
    body = await read_body(request)
    picture, strength = _picture(body), body.share("strength", 1.0) or 1.0
    job = _job(body, count=4) | {"strength": strength}

    def prepare(library: Library, pictures: JobPictures) -> dict[str, Any]:
        check_abilities(_decoder("vary", job, library), "vary", strength=strength)
        return {"picture": _checked(picture, pictures)[0]}

    return await start(request, body, "vary", job, prepare)


async def blend(request: Request) -> Response:
    """Start blending pictures and texts."""
    body = await read_body(request)
    items, weights = body.items("items"), body.numbers("weights")
    steps = body.integer("steps", 5, 2, MAX_PICTURES) or 5
    if len(items) < 2:
        raise BadQuery("give at least two pictures or texts to blend, as items")
    if weights:
        shares_of(weights, len(items))
    else:
        way(len(items), steps)
    job = {
        "options": read_sampling(body),
        "steps": steps,
        "weights": weights,
        "denoising_steps": read_steps(body, "denoising_steps"),
    }

    def prepare(library: Library, pictures: JobPictures) -> dict[str, Any]:
        texts = [item for item in items if isinstance(item, str)]
        check_abilities(_decoder("blend", job, library), "blend", needs_prior=bool(texts))
        sent = [{"text": item} if isinstance(item, str) else _checked(item, pictures)[0] for item in items]
        return {"items": sent}

    return await start(request, body, "blend", job, prepare)


async def restyle(request: Request) -> Response:
    """Start changing a picture from what one text says to what another says."""
    body = await read_body(request)
    picture, amount, strength = _picture(body), body.share("amount"), body.share("strength")
    before, after = body.text("from").strip(), body.text("to").strip()
    job = _job(body) | {"from": before, "to": after, "amount": amount, "strength": strength}

    def prepare(library: Library, pictures: JobPictures) -> dict[str, Any]:
        entry = _decoder("restyle", job, library)
        check_change(entry, before, after, amount)
        check_abilities(entry, "restyle", strength=strength or STRENGTH)
        return {"picture": _checked(picture, pictures)[0]}

    return await start(request, body, "restyle", job, prepare)


async def edit(request: Request) -> Response:
    """Start painting into a box or mask of a picture."""
    body = await read_body(request)
    picture, text = _picture(body), body.text("text").strip()
    box, mask = body.box("box"), body.picture("mask")
    if not has_words(text):
        raise BadQuery("say in words what to paint, as text")
    if (box is None) == (mask is None):
        raise BadQuery("say what to repaint: either a box, as [x, y, width, height], or a mask")
    job = _job(body) | {"text": text, "box": box}

    def prepare(library: Library, pictures: JobPictures) -> dict[str, Any]:
        check_abilities(_decoder("edit", job, library), "edit")
        sent, size = _checked(picture, pictures)
        if box:
            clipped(box, size)
        sent_mask = None
        if mask:
            sent_mask, shape = _checked(mask, pictures)
            check_shape(shape, size)
            if pictures.brightest(sent_mask) <= 127:
                raise BadQuery("the mask is black: paint white what is to be repainted")
        return {"picture": sent, "mask": sent_mask}

    return await start(request, body, "edit", job, prepare)


async def extend(request: Request) -> Response:
    """Start continuing a picture beyond its edges."""
    body = await read_body(request)
    picture, text = _picture(body), body.text("text").strip()
    sides = {name: body.integer(name, 0, 0, MAX_ADDED) or 0 for name in ("left", "right", "top", "bottom")}
    check_sides(**sides)
    if text and not has_words(text):
        raise BadQuery(f"there are no words in {text[:80]!r}: say what to paint, or leave the text out")
    job = _job(body) | {"text": text, "sides": sides}
    most = services_of(request).settings.max_upload_pixels

    def prepare(library: Library, pictures: JobPictures) -> dict[str, Any]:
        check_abilities(_decoder("extend", job, library), "extend")
        sent, size = _checked(picture, pictures)
        width, height = extended_size(size, **sides)
        if width * height > most:
            raise BadQuery(f"the result would have {width:,} x {height:,} pixels; at most {most:,} are allowed")
        return {"picture": sent}

    return await start(request, body, "extend", job, prepare)


def _picture(body: Body) -> PictureRef:
    """Return the picture that an operation starts from."""
    picture = body.picture("picture")
    if picture is None:
        raise BadQuery("name the picture: its id, upload:ID, generated:ID or a URL")
    return picture


def _job(body: Body, count: int = 1) -> dict[str, Any]:
    """Return what most operations can be told."""
    steps = read_steps(body)
    return {"n": read_count(body, count), "options": read_sampling(body) | ({"steps": steps} if steps else {})}


def _decoder(operation: str, job: dict[str, Any], library: Library) -> DecoderEntry:
    return decoder_for(operation, job["options"].get("decoder"), library)


def _checked(ref: PictureRef, pictures: JobPictures) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return a picture for the child, which can be decoded, and its size."""
    sent = pictures.send(ref)
    return sent, pictures.size(sent)


routes = [
    Route("/api/vary", vary, methods=["POST"]),
    Route("/api/blend", blend, methods=["POST"]),
    Route("/api/restyle", restyle, methods=["POST"]),
    Route("/api/edit", edit, methods=["POST"]),
    Route("/api/extend", extend, methods=["POST"]),
]
