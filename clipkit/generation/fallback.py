"""The fallback of a search: whether to generate a picture, and if not, why not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.generated import Generated, find_generated
from clipkit.catalog.layout import Layout
from clipkit.errors import DecoderNotAvailable, GenerationRefused
from clipkit.generation import availability, decoder_files
from clipkit.progress import ProgressCallback
from clipkit.searching.query import Query
from clipkit.searching.result import SearchResult
from clipkit.searching.unknown_words import known_share

if TYPE_CHECKING:
    from clipkit.generation.registry import DecoderEntry
    from clipkit.generation.safety import Guard


def generate_fallback(
    catalog: Catalog,
    layout: Layout,
    result: SearchResult,
    *,
    when: Literal["auto", "never", "always"],
    fresh: bool,
    device: str,
    progress: ProgressCallback | None,
    safety: bool | None = None,
) -> SearchResult:
    """Return the result with a generated picture, or with a note that says why there is none.

    "auto" generates if nothing matches and a decoder can do so at once, without a download and without taking minutes;
    "always" generates whatever matches, and raises DecoderNotAvailable if it cannot.
    A picture generated earlier for the same query is returned again, unless `fresh`. If the query, or what was made of
    it, is refused, a note says so.
    """
    if when == "never" or (when == "auto" and result.matched):
        return result
    always = when == "always"
    if not known_share(result.query, result.unknown_words):
        return _with_note(result, "no picture was generated: the model knows none of these words")
    entry = availability.decoder_for_spaces(result.model, *catalog.spaces())
    reason = availability.why_unavailable(entry)
    if reason and not (always and decoder_files.on_disk(entry)):
        if always:
            raise DecoderNotAvailable(reason)
        return _with_note(result, reason)
    from clipkit.generation.generate import generate
    from clipkit.generation.job import guard_for, wanted_texts

    told: list[str] = []
    try:
        guard = guard_for(
            entry,
            {
                "catalog": catalog,
                "layout": layout,
                "safety": safety,
                "device": device,
                "say": told.append,
                "progress": progress,
            },
        )
        if guard:
            guard.check_words(wanted_texts(result.query.terms()))
        earlier = None if fresh else find_earlier(result.query, entry, catalog, guard)
        if catalog.read_only and not earlier and not always:
            return _with_note(result, "no picture was generated: the library is read-only")
        picture = (
            earlier
            or generate(
                result.query,
                catalog=catalog,
                layout=layout,
                decoder=entry.id,
                may_fetch=False,
                safety=safety,
                guard=guard,
                device=device,
                progress=progress,
            )[0]
        )
    except GenerationRefused as error:
        return _with_note(result, f"no picture was generated: {error}")
    except DecoderNotAvailable as error:
        if always:
            raise
        return _with_note(result, f"no picture was generated: {error}")
    date = f"on {picture.created_at[:10]}" if earlier else "just now"
    source = f"{date} by the decoder {picture.decoder}, seed {picture.seed}"
    note = f"this picture was generated, not found ({source}): {picture.path}"
    return _with_note(replace(result, generated=(picture,)), *told, note)


def find_earlier(query: Query, entry: DecoderEntry, catalog: Catalog, guard: Guard | None) -> Generated | None:
    """Return the newest picture that a decoder generated for a query; with a guard, only one that was checked."""
    from clipkit.generation.generate import contents_of
    from clipkit.generation.safety import is_on

    def checked(picture: Generated) -> bool:
        parameters = picture.parameters
        return is_on(entry, not parameters.get("no_safety") if parameters.keys() & {"safety", "no_safety"} else None)

    found = find_generated(catalog, query.to_json(), entry.id, contents_of(query))
    return next((picture for picture in found if not guard or checked(picture)), None)


def _with_note(result: SearchResult, *notes: str) -> SearchResult:
    return replace(result, notes=(*result.notes, *notes))
