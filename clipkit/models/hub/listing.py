"""Which models there are, as plain data: the registry's, imported ones, and what is known of any other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clipkit.errors import ModelNotAvailable
from clipkit.models.hub.importing import imported
from clipkit.models.hub.locating import is_here, locate, require_known
from clipkit.models.reference import ModelRef
from clipkit.models.registry import entries


def known_models(also: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the models of the registry, then imported ones, then those in `also`, each once.

    Every row has "id" and "on_disk"; those of the registry have the fields of `ModelEntry` as well, imported
    ones have "imported".
    """
    rows: dict[str, dict[str, Any]] = {
        known.id: {**known.to_json(), "on_disk": is_here(ModelRef.of(known.id))} for known in entries()
    }
    for other in imported():
        rows.setdefault(other, {"id": other, "on_disk": True, "imported": True})
    for other in also:
        rows.setdefault(other, {"id": other, "on_disk": is_here(ModelRef.of(other))})
    return list(rows.values())


def describe(model: str) -> dict[str, Any]:
    """Return what is known of a model: as `known_models`, with the file of its "weights", or a "note" without them.

    Raises ModelNotAvailable if there is no such model.
    """
    ref = ModelRef.resolve(model)
    require_known(ref)
    facts: dict[str, Any] = ref.entry.to_json() if ref.entry else {"id": ref.id}
    try:
        return facts | {"on_disk": True, "weights": str(locate(ref).weights)}
    except ModelNotAvailable as error:
        return facts | {"on_disk": False, "weights": None, "note": str(error)}
