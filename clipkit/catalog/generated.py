"""The record of generated and edited pictures: the operation, its parents, the query, the models and the seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import from_stored, to_stored

EDITS = frozenset({"edit", "extend"})
"""Operations that keep pixels of a picture: what they make is edited, not generated."""

_COLUMNS = (
    "id, path, query, space, prior, decoder, seed, steps, guidance, parents, created_at, route, operation, parameters,"
    " hash"
)


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated or edited picture.

    `query`: plain data, as `Query.to_json` returns it.
    `parents`: the pictures that it was made from or asked to resemble: absolute paths and URLs.
    `route`: for each term of the query, how it reached the decoder; for a picture that was enlarged, what it is now:
    "edited", "generated" as it was before, or "resampled" if no model made anything of it.
    `operation`: the command that made it: "generate", "vary", "edit" and so on.
    `parameters`: what that command was given, as plain data: "arguments" is the list of its arguments, every other key
    the name of an option; options that have columns of their own, such as the seed, are left out. "warnings" is no
    option but the concepts that the safety list warned about. Pictures of older versions have none.
    `contents`: a hash of the pictures of the query, which names do not tell apart; empty if it has none.
    `id`: its row in the catalog; None without a library.
    """

    path: Path
    query: dict
    model: str
    prior: str
    decoder: str
    seed: int
    steps: int
    guidance: float
    created_at: str
    parents: tuple[str, ...] = ()
    route: tuple[dict, ...] = ()
    operation: str = "generate"
    parameters: dict[str, Any] = field(default_factory=dict)
    contents: str = ""
    id: int | None = None

    @property
    def edited(self) -> bool:
        """Whether it is a photograph that a model changed: painted into, continued, or enlarged with new detail."""
        return self.operation in EDITS or any(leg.get("route") == "edited" for leg in self.route)

    def to_json(self) -> dict:
        """Return the keys that `clipkit search --json` and `clipkit generate --json` promise."""
        return {
            "path": str(self.path),
            "operation": self.operation,
            "seed": self.seed,
            "decoder": self.decoder,
            "prior": self.prior,
            "model": self.model,
            "steps": self.steps,
            "guidance": self.guidance,
            "query": self.query,
            "parents": list(self.parents),
            "route": list(self.route),
            "parameters": self.parameters,
            "created_at": self.created_at,
            "id": self.id,
        }


def record_generated(catalog: Catalog, picture: Generated, put: Callable[[], None]) -> Generated:
    """Record a generated picture, and return it with its id.

    `put` moves the file into place atomically, between the insert and the commit: a killed process never leaves a row
    without its file.
    """
    folder = catalog.path.parent
    path = picture.path.relative_to(folder) if picture.path.is_relative_to(folder) else picture.path
    values = {
        "path": to_stored(path),
        "query": _canonical(picture.query),
        "space": picture.model,
        "prior": picture.prior,
        "decoder": picture.decoder,
        "seed": picture.seed,
        "steps": picture.steps,
        "guidance": picture.guidance,
        "parents": json.dumps(list(picture.parents)),
        "created_at": picture.created_at,
        "route": json.dumps(list(picture.route)),
        "operation": picture.operation,
        "parameters": _canonical(picture.parameters),
        "hash": picture.contents or None,
    }
    updates = ", ".join(f"{name} = excluded.{name}" for name in values if name != "path")
    with catalog.transaction():
        cursor = catalog.db.execute(
            f"INSERT INTO generations ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
            f" ON CONFLICT (path) DO UPDATE SET {updates} RETURNING id",
            list(values.values()),
        )
        number = cursor.fetchone()[0]
        put()
    return replace(picture, id=number)


def list_generated(catalog: Catalog) -> Iterator[Generated]:
    """Yield all generated pictures whose files still exist, oldest first."""
    rows = catalog.db.execute(f"SELECT {_COLUMNS} FROM generations ORDER BY id")
    return (picture for row in rows if (picture := _from_row(catalog, row)).path.is_file())


def find_generated(catalog: Catalog, query: dict, decoder: str, contents: str = "") -> Iterator[Generated]:
    """Yield the pictures that the decoder generated for exactly this query and whose files still exist, newest first.

    `contents`: as of `Generated`; the same names may have stood for other pictures.
    """
    rows = catalog.db.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE query = ? AND decoder = ? AND operation = 'generate'"
        " AND COALESCE(hash, '') = ? ORDER BY id DESC",
        [_canonical(query), decoder, contents],
    )
    return (picture for row in rows if (picture := _from_row(catalog, row)).path.is_file())


def find_generated_by_id(catalog: Catalog, number: int) -> Generated | None:
    """Return the generated picture with this id, if its file still exists."""
    row = catalog.db.execute(f"SELECT {_COLUMNS} FROM generations WHERE id = ?", [number]).fetchone()
    picture = _from_row(catalog, row) if row else None
    return picture if picture and picture.path.is_file() else None


def delete_generated(catalog: Catalog, ids: Sequence[int] | None = None) -> list[Generated]:
    """Delete generated pictures by id, or all of them: rows and files. Return those that existed."""
    chosen = [picture for picture in list_generated(catalog) if ids is None or picture.id in ids]
    for picture in chosen:
        # The row first: a kill in between leaves a marked file, never a row without its file.
        with catalog.transaction():
            catalog.db.execute("DELETE FROM generations WHERE id = ?", [picture.id])
        picture.path.unlink(missing_ok=True)
    return chosen


def _canonical(data: dict) -> str:
    return json.dumps(data, sort_keys=True, ensure_ascii=False)


def _from_row(catalog: Catalog, row: tuple) -> Generated:
    number, path, query, model, prior, decoder, seed, steps, guidance, parents, created_at, route, *made = row
    operation, parameters, contents = made
    return Generated(
        path=catalog.path.parent / from_stored(path),
        query=json.loads(query),
        model=model,
        prior=prior,
        decoder=decoder,
        seed=seed,
        steps=steps,
        guidance=guidance,
        created_at=created_at,
        parents=tuple(json.loads(parents)),
        route=tuple(json.loads(route)),
        operation=operation,
        parameters=json.loads(parameters),
        contents=contents or "",
        id=number,
    )
