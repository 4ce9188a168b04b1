"""Enlarging: a whole picture at a larger size, with the detail that a network invents, or by interpolation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.atomic import clear_unfinished
from clipkit.catalog.catalog import Catalog
from clipkit.catalog.generated import Generated
from clipkit.catalog.layout import Layout
from clipkit.catalog.rows import now
from clipkit.errors import BadQuery
from clipkit.generation.job import destination
from clipkit.generation.operations.originals import Original, check_not_overwritten
from clipkit.generation.operations.sources import find_source
from clipkit.generation.saving import save_generated, unused_file
from clipkit.generation.upscalers import choose_upscaler
from clipkit.generation.upscaling import enlarge, enlarged_size
from clipkit.progress import ProgressCallback
from clipkit.searching.library_models import default_model
from clipkit.searching.query import Query

if TYPE_CHECKING:
    from clipkit.generation.operations.sources import Reference
    from clipkit.marks.original import Edited


def upscale(
    picture: Reference,
    *,
    to: int | None = None,
    upscaler: str | None = None,
    output: str | Path | None = None,
    label: bool = False,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
    catalog: Catalog | None = None,
    layout: Layout | None = None,
) -> Generated:
    """Enlarge a picture, mark it for what it is and save it; see `Library.upscale`.

    `catalog`, `layout`: the library; without one, `output` is needed.
    """
    folder, named = destination(layout, output)
    if catalog is not None:
        catalog.require_writable()
    source = find_source(picture, catalog)
    check_not_overwritten(output, 1, source.data)
    original = Original.read(source)
    before = original.image.size
    entry = choose_upscaler(
        upscaler, drawn=_is_drawn(original, catalog, layout), enlargement=to / max(before) if to else None
    )
    size = enlarged_size(before, to, entry)
    everything = np.broadcast_to(np.True_, (size[1], size[0]))
    edited = original.edited(everything, invented=entry.invents)
    if label and not edited.invented:
        raise BadQuery("a photograph that is only interpolated has nothing made by a model: omit --label")
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    image = enlarge(original.image, size, entry, device=device, progress=progress)
    parameters: dict[str, Any] = {"arguments": [source.name], "to": max(size), "upscaler": entry.name}
    result = Generated(
        path=(named or unused_file(folder, f"upscale {source.title}", max(size))).absolute(),
        query=Query(like=(source.name,)).to_json(),
        model="",
        prior="",
        decoder=entry.id,
        seed=0,
        steps=0,
        guidance=0.0,
        created_at=now(),
        parents=(source.name,),
        route=({"term": source.name, "route": _result(edited), "through": entry.id},),
        operation="upscale",
        # These options of other operations have no meaning here.
        parameters=parameters | ({"label": True} if label else {}) | dict.fromkeys(_NO_OPTIONS),
    )
    return save_generated(catalog, result, image, edited=edited, label=label, say=say)


_NO_OPTIONS = ("seed", "steps", "guidance", "decoder")


def _result(edited: Edited) -> str:
    """Return what the picture is now; see `Generated.route`."""
    if not edited.invented:
        return "resampled"
    return "generated" if edited.generated else "edited"


def _is_drawn(original: Original, catalog: Catalog | None, layout: Layout | None) -> bool:
    """Return whether a picture shows the bundled model's drawn scenes: it made it, or searches the library."""
    provenance = original.marks.provenance if original.marks else None
    if provenance is not None and provenance.model:
        return provenance.model == "tiny"
    return catalog is not None and layout is not None and default_model(catalog, layout) == "tiny"
