"""Generating pictures of a query: choose a decoder, plan a route for each term, synthesise, save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.atomic import clear_unfinished
from clipkit.catalog.catalog import Catalog
from clipkit.catalog.generated import Generated
from clipkit.catalog.layout import Layout
from clipkit.catalog.rows import now
from clipkit.errors import BadQuery, DecoderNotAvailable
from clipkit.generation import availability, decoder_files, registry
from clipkit.generation.command_line import decoder_parameters, named_absolutely, query_parameters
from clipkit.generation.saving import check_extension, numbered_file, save_generated, unused_file
from clipkit.progress import ProgressCallback
from clipkit.searching.library_models import default_model
from clipkit.searching.query import Query, picture_of

if TYPE_CHECKING:
    from clipkit.generation.routes import LibrarySource, RoutePlan, RoutePreference

MAX_PICTURES = 1000


def generate(
    query: Query,
    count: int = 1,
    *,
    catalog: Catalog | None = None,
    layout: Layout | None = None,
    decoder: str | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    size: int | None = None,
    output: Path | None = None,
    route: RoutePreference = "auto",
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    may_fetch: bool = True,
    progress: ProgressCallback | None = None,
) -> list[Generated]:
    """Generate, mark and save `count` pictures of a query; see `Library.generate`.

    `catalog` and `layout`: the library; without one, `decoder` and `output` are needed.
    `may_fetch`: download what a decoder lacks, if `decoder` names it.
    """
    from clipkit.generation import routes, synthesis

    if not 1 <= count <= MAX_PICTURES:
        raise BadQuery(f"the number of pictures must be from 1 to {MAX_PICTURES}")
    if catalog is not None:
        catalog.require_writable()
    entry = choose_decoder(catalog, layout, decoder)
    first = synthesis.resolve_settings(entry, seed=seed, steps=steps, guidance=guidance, size=size)
    if output is not None:
        check_extension(output)
        folder = output.parent
    elif layout is not None:
        folder = layout.generated
    else:
        raise BadQuery("without a library, say where to save the picture with -o FILE")
    source = routes.LibrarySource(catalog, layout.bridges if layout else None)
    plan = plan_query(query, entry, source, route=route, named=bool(decoder) and may_fetch)
    side = max(448, entry.size)  # enough for any image tower
    pictures = [picture_of(r.term.value, side) if routes.needs_image(r) else None for r in plan.routes]
    if say:
        for line in plan.notes:
            say(line)
    if plan.needs_download:
        decoder_files.download(entry, with_tower=plan.needs_tower, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    conditions, unconditional = routes.resolve_conditions(plan, source, pictures, device)
    parents = tuple(named_absolutely(p) for p in query.like if isinstance(p, str | Path))
    parameters = query_parameters(query) | decoder_parameters(entry, first.size)
    if route != "auto":
        parameters["route"] = route
    results = []
    pairs = synthesis.generate_images(
        entry, conditions, first, count, unconditional=unconditional, device=device, progress=progress
    )
    for number, (image, settings) in enumerate(pairs):
        path = numbered_file(output, number, count) if output else unused_file(folder, query.text, settings.seed)
        picture = Generated(
            path=path.absolute(),
            query=query.to_json(),
            model=entry.space,
            prior="" if entry.takes_prompt else entry.prior or entry.id,
            decoder=entry.id,
            seed=settings.seed,
            steps=settings.steps,
            guidance=settings.guidance,
            created_at=now(),
            parents=parents,
            route=tuple(plan.to_json()),
            parameters=parameters,
        )
        results.append(save_generated(catalog, picture, image))
    return results


def choose_decoder(catalog: Catalog | None, layout: Layout | None, decoder: str | None) -> registry.DecoderEntry:
    """Return the decoder that is named, or the one for the library's models if it is on disk.

    Raises DecoderNotAvailable.
    """
    if decoder:
        return registry.resolve_decoder(decoder)
    if catalog is None or layout is None:
        raise DecoderNotAvailable("without a library, name a decoder, as in --decoder tiny")
    entry = availability.decoder_for_spaces(default_model(catalog, layout), *catalog.spaces())
    if not decoder_files.on_disk(entry):
        raise DecoderNotAvailable(availability.why_unavailable(entry))
    return entry


def plan_query(
    query: Query, entry: registry.DecoderEntry, source: LibrarySource, *, route: RoutePreference, named: bool
) -> RoutePlan:
    """Plan the route of every term of a query; see `clipkit.generation.routes.plan_routes`."""
    from clipkit.generation import routes

    terms = [
        routes.QueryTerm(
            term.value, term.is_picture, term.weight, routes.content_hash_of(term.value) if term.is_picture else ""
        )
        for term in query.terms()
    ]
    return routes.plan_routes(terms, entry, source, preference=route, named=named)
