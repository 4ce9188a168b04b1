"""The missing picture: made on request, or when a search found that nothing matches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.atomic import clear_unfinished
from clipkit.catalog.generated import Generated, made_before, record
from clipkit.catalog.records import now
from clipkit.errors import BadQuery, ClipkitError, DecoderNotAvailable
from clipkit.generation import availability, decoder_files, registry
from clipkit.progress import ProgressCallback
from clipkit.searching.query import Query, picture_of
from clipkit.searching.result import SearchResult

if TYPE_CHECKING:
    from clipkit.generation.decoder import Settings
    from clipkit.generation.routes import LibrarySource, RoutePlan, RoutePreference
    from clipkit.library import Library

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOST = 1000


def generate(
    query: Query,
    count: int = 1,
    *,
    library: Library | None = None,
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
    """Makes pictures of a query and marks them; see `Library.generate`. Without a library `output` is needed.

    What a decoder lacks is downloaded only if it is named and `may_fetch`.
    """
    from clipkit.generation import routes
    from clipkit.generation.synthesis import generate_images, resolve_settings

    if not 1 <= count <= MOST:
        raise BadQuery(f"the number of pictures must be from 1 to {MOST}")
    if library is not None:
        library.catalog.require_writable()  # it records what is made
    entry = chosen(library, decoder)
    first = resolve_settings(entry, seed=seed, steps=steps, guidance=guidance, size=size)
    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise BadQuery(f"{output} has no picture's name: let it end in one of {', '.join(SUFFIXES)}")
    folder = output.parent if output is not None else library.path / "generated" if library else None
    if folder is None:
        raise BadQuery("without a library the picture needs a place: give one with -o FILE")
    ground = ground_of(library)
    plan = plan_of(query, entry, ground, route=route, named=bool(decoder) and may_fetch)
    pictures = [picture_of(r.term.value, size_of(entry)) if routes.needs_image(r) else None for r in plan.routes]
    for line in plan.notes if say else ():
        say(line)  # type: ignore[misc]
    if plan.needs_download:
        decoder_files.download(entry, with_tower=plan.needs_tower, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    conditions, unconditional = routes.resolve_conditions(plan, ground, pictures, device)
    parents = tuple(str(p) for p in query.like if isinstance(p, str | Path))
    results = []
    pairs = generate_images(
        entry, conditions, first, count, unconditional=unconditional, device=device, progress=progress
    )
    for number, (image, settings) in enumerate(pairs):
        path = _place(folder, query, settings, output, number, count)
        made = Generated(
            path.absolute(), query.to_json(), entry.space, "" if entry.takes_prompt else entry.prior or entry.id,
            entry.id, settings.seed, settings.steps, settings.guidance, now(), parents, route=tuple(plan.to_json()),
        )  # fmt: skip
        results.append(_keep(library, made, image, settings))
    return results


def plan_of(
    query: Query, entry: registry.DecoderEntry, ground: LibrarySource, *, route: RoutePreference, named: bool
) -> RoutePlan:
    """The route of every term of a query; see `clipkit.generation.routes.plan_routes`."""
    from clipkit.generation import routes

    parts = [
        routes.QueryTerm(
            term.value, term.is_picture, term.weight, routes.content_hash_of(term.value) if term.is_picture else ""
        )
        for term in query.terms()
    ]
    return routes.plan_routes(parts, entry, ground, preference=route, named=named)


def ground_of(library: Library | None) -> LibrarySource:
    """What routes may use of a library, or of none."""
    from clipkit.generation.routes import LibrarySource

    return LibrarySource(library.catalog, library.path / "bridges") if library else LibrarySource()


def make_missing(
    library: Library,
    result: SearchResult,
    *,
    always: bool,
    fresh: bool,
    device: str,
    progress: ProgressCallback | None,
    known_words: float,
) -> SearchResult:
    """The result with the missing picture, or with a note that says why there is none.

    Pictures of photographs that nobody asked for by name are only made where that takes neither a download nor minutes.
    The same query gets the picture that it got before, unless a `fresh` one is wanted.
    """
    entry = availability.decoder_for_spaces(result.space, *library.catalog.spaces())
    if not known_words:
        return replace(result, notes=(*result.notes, "no picture was made: the model knows none of these words"))
    reason = availability.why_unavailable(entry)
    if reason and not (always and decoder_files.on_disk(entry)):
        if always:
            raise DecoderNotAvailable(reason)
        return replace(result, notes=(*result.notes, reason))
    before = None if fresh else made_before(library.catalog, result.query.to_json(), entry.id)
    if library.catalog.read_only and not before and not always:
        return replace(result, notes=(*result.notes, "no picture was made: the library may not be written to"))
    try:
        made = (
            before
            or generate(
                result.query, library=library, decoder=entry.id, may_fetch=False, device=device, progress=progress
            )[0]
        )
    except DecoderNotAvailable as error:
        if always:
            raise
        return replace(result, notes=(*result.notes, f"no picture was made: {error}"))
    when = f"made before, on {made.created_at[:10]}" if before else "made just now"
    note = f"this picture was made, not found ({when} by the decoder {made.decoder}, seed {made.seed}): {made.path}"
    return replace(result, generated=(made,), notes=(*result.notes, note))


def chosen(library: Library | None, decoder: str | None) -> registry.DecoderEntry:
    """The decoder to make a picture with: the one that is named, or the library's own if it is on this machine."""
    if decoder:
        return registry.resolve_decoder(decoder)
    if library is None:
        raise DecoderNotAvailable("there is no library to take the model from: name a decoder, as in --decoder tiny")
    entry = availability.decoder_for_spaces(library.space, *library.catalog.spaces())
    if not decoder_files.on_disk(entry):
        raise DecoderNotAvailable(availability.why_unavailable(entry))
    return entry


def size_of(entry: registry.DecoderEntry) -> int:
    """The shorter side to open pictures at: enough for any image tower."""
    return max(448, entry.size)


def _place(folder: Path, query: Query, settings: Settings, output: Path | None, number: int, count: int) -> Path:
    if output is not None:
        return output if count == 1 else output.with_stem(f"{output.stem}-{number + 1}")
    words = re.sub(r"[^a-z0-9]+", "-", query.text.lower()).strip("-")[:60].strip("-") or "picture"
    path, again = folder / f"{words}-{settings.seed}.png", 1
    while path.exists():
        again += 1
        path = folder / f"{words}-{settings.seed}-{again}.png"
    return path


def _keep(library: Library | None, made: Generated, image, settings: Settings) -> Generated:
    from clipkit.marks.provenance import Provenance
    from clipkit.marks.writing import save_marked

    says = Provenance(
        query=_in_words(made.query), model=made.decoder, seed=made.seed, steps=made.steps, guidance=made.guidance,
    )  # fmt: skip

    def put() -> None:
        try:
            save_marked(image, made.path, says)
        except OSError as error:
            raise ClipkitError(f"cannot write the picture {made.path}: {error}") from error

    if library is None:
        put()
        return made
    return record(library.catalog, made, put)


def _in_words(query: dict) -> str:
    """A query as one line."""
    like: Sequence[str] = [f"like {Path(name).name}" for name in query["like"]]
    away: Sequence[str] = [f"not {name}" for name in query["not"]]
    return ", ".join(part for part in (query["text"], *like, *away) if part)
