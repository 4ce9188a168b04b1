"""What the child process of a server does to make pictures; each is reported as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clipkit.catalog.generated import Generated
from clipkit.library import Library
from clipkit.progress import ProgressCallback
from clipkit.searching.result import SearchResult
from clipkit.server.answers import made_json
from clipkit.server.job_pictures import as_item, as_mask, as_query, as_source

Say = Callable[[str, dict[str, Any]], None]
"""Takes the name of an event and its data."""

Work = Callable[[Library, dict[str, Any], Say, ProgressCallback], dict[str, Any]]
"""Does a job, and returns the data of its last event."""


def generate(library: Library, job: dict[str, Any], say: Say, progress: ProgressCallback) -> dict[str, Any]:
    """Generate pictures of a query."""
    query = as_query(job["query"])
    return _one_by_one(library, job, say, progress, lambda options: library.generate(query, 1, **options))


def fall_back(library: Library, job: dict[str, Any], say: Say, progress: ProgressCallback) -> dict[str, Any]:
    """Generate what a search would generate for a query that nothing matches; return it with the notes."""
    from clipkit.generation.fallback import generate_fallback
    from clipkit.models.loading import load_encoder
    from clipkit.searching.library_models import resolve_model

    query = as_query(job["query"])
    model = resolve_model(library.catalog, library.layout, job.get("model"))
    encoder = load_encoder(model, job["device"], search=True)
    texts = [str(term.value) for term in query.terms() if not term.is_picture]
    unknown = tuple(dict.fromkeys(word for text in texts for word in encoder.unknown_words(text)))
    nothing = SearchResult(query, library.name, model, False, 0.0, (), unknown_words=unknown)
    result = generate_fallback(
        library.catalog,
        library.layout,
        nothing,
        when=job["fallback"],
        # Pictures without a name are all written alike in the record of what was generated.
        fresh=job["fresh"] or any(isinstance(picture, bytes) for picture in (*query.like, *query.not_)),
        device=job["device"],
        progress=progress,
    )
    made = [made_json(picture, library.layout) for picture in result.generated]
    for picture in made:
        say("picture", picture)
    return {"generated": made, "notes": list(result.notes)}


def vary(library: Library, job: dict[str, Any], say: Say, progress: ProgressCallback) -> dict[str, Any]:
    """Make variations of a picture."""
    picture, strength = as_source(job["picture"]), job["strength"]
    return _one_by_one(
        library, job, say, progress, lambda options: library.vary(picture, 1, strength=strength, **options)
    )


def blend(library: Library, job: dict[str, Any], say: Say, progress: ProgressCallback) -> dict[str, Any]:
    """Blend pictures and texts; the strip of all comes with the last event."""
    notes: list[str] = []
    done = library.blend(
        [as_item(item) for item in job["items"]],
        job["steps"],
        weights=job["weights"],
        denoising_steps=job["denoising_steps"],
        **_options(job, notes, progress),
    )
    made = [made_json(picture, library.layout) for picture in done.pictures]
    for picture in made:
        say("picture", picture)
    strip = made_json(done.strip, library.layout) if done.strip else None
    return {"generated": made, "strip": strip, "notes": notes}


def restyle(library: Library, job: dict[str, Any], say: Say, progress: ProgressCallback) -> dict[str, Any]:
    """Change a picture from what one text says to what another says."""
    picture, before, after = as_source(job["picture"]), job["from"], job["to"]
    own: dict[str, Any] = {"amount": job["amount"], "strength": job["strength"]}
    return _one_by_one(
        library, job, say, progress, lambda options: library.restyle(picture, before, after, 1, **own, **options)
    )


def edit(library: Library, job: dict[str, Any], say: Say, progress: ProgressCallback) -> dict[str, Any]:
    """Paint into a part of a picture."""
    picture, text, box = as_source(job["picture"]), job["text"], job["box"]
    mask = as_mask(job["mask"]) if job["mask"] else None
    return _one_by_one(
        library, job, say, progress, lambda options: library.edit(picture, text, 1, mask=mask, box=box, **options)
    )


def extend(library: Library, job: dict[str, Any], say: Say, progress: ProgressCallback) -> dict[str, Any]:
    """Continue a picture beyond its edges."""
    picture, text, sides = as_source(job["picture"]), job["text"], job["sides"]
    return _one_by_one(
        library, job, say, progress, lambda options: library.extend(picture, text, 1, **sides, **options)
    )


WORK: dict[str, Work] = {
    "generate": generate,
    "fallback": fall_back,
    "vary": vary,
    "blend": blend,
    "restyle": restyle,
    "edit": edit,
    "extend": extend,
}
"""The kinds of jobs that make pictures."""


def _one_by_one(
    library: Library,
    job: dict[str, Any],
    say: Say,
    progress: ProgressCallback,
    make: Callable[[dict[str, Any]], list[Generated]],
) -> dict[str, Any]:
    """Make `job["n"]` pictures with the seeds that they would have together."""
    notes: list[str] = []
    options = _options(job, notes, progress)
    made: list[dict[str, Any]] = []
    for number in range(job["n"]):
        [picture] = make(options)
        options["seed"] = picture.seed + 1
        made.append(made_json(picture, library.layout))
        say("picture", made[number])
    return {"generated": made, "notes": list(dict.fromkeys(notes))}


def _options(job: dict[str, Any], notes: list[str], progress: ProgressCallback) -> dict[str, Any]:
    """Return the options of an operation. Nothing is downloaded: a decoder may lack its image tower here."""
    return {
        **job["options"],
        "device": job["device"],
        "may_fetch": False,
        "say": notes.append,
        "progress": progress,
    }
