"""Which models there are, as plain data: the registry's, imported ones, and what is known of any other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clipkit.errors import ModelNotAvailable
from clipkit.models.hub.importing import imported
from clipkit.models.hub.locating import is_here, known_to_exist, locate, unknown
from clipkit.models.registry import canonical_id, entries, entry


def known_models(also: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the models of the registry, then imported ones, then those in `also`, each once.

    Every row has "id" and "on_disk"; those of the registry have the fields of `ModelEntry` as well, imported
    ones have "imported".
    """
    rows: dict[str, dict[str, Any]] = {
        known.id: {**known.to_json(), "on_disk": is_here(known.id)} for known in entries()
    }
    for other in imported():
        rows.setdefault(other, {"id": other, "on_disk": True, "imported": True})
    for other in also:
        rows.setdefault(other, {"id": other, "on_disk": is_here(other)})
    return list(rows.values())


def describe(model: str) -> dict[str, Any]:
    """Return what is known of a model: as `known_models`, with the file of its "weights", or a "note" without them.

    Raises ModelNotAvailable if there is no such model.
    """
    if not known_to_exist(model):
        raise ModelNotAvailable(unknown(model))
    known = entry(model)
    facts: dict[str, Any] = known.to_json() if known else {"id": canonical_id(model)}
    try:
        return facts | {"on_disk": True, "weights": str(locate(model).weights)}
    except ModelNotAvailable as error:
        return facts | {"on_disk": False, "weights": None, "note": str(error)}
