"""The record of generated pictures: the query, the models and the seed of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import from_stored, to_stored

_COLUMNS = "id, path, query, space, prior, decoder, seed, steps, guidance, parents, created_at, route"


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated picture.

    `query`: plain data, as `Query.to_json` returns it.
    `parents`: the pictures that it was asked to resemble.
    `route`: for each term of the query, how it reached the decoder.
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
    id: int | None = None

    def to_json(self) -> dict:
        """Return the keys that `clipkit search --json` and `clipkit generate --json` promise."""
        return {
            "path": str(self.path),
            "seed": self.seed,
            "decoder": self.decoder,
            "prior": self.prior,
            "model": self.model,
            "steps": self.steps,
            "guidance": self.guidance,
            "query": self.query,
            "parents": list(self.parents),
            "route": list(self.route),
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


def find_generated(catalog: Catalog, query: dict, decoder: str) -> Generated | None:
    """Return the newest picture that the decoder generated for exactly this query, if its file still exists."""
    rows = catalog.db.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE query = ? AND decoder = ? ORDER BY id DESC",
        [_canonical(query), decoder],
    )
    return next((picture for row in rows if (picture := _from_row(catalog, row)).path.is_file()), None)


def delete_generated(catalog: Catalog, ids: Sequence[int] | None = None) -> list[Generated]:
    """Delete generated pictures by id, or all of them: rows and files. Return those that existed."""
    chosen = [picture for picture in list_generated(catalog) if ids is None or picture.id in ids]
    for picture in chosen:
        # The row first: a kill in between leaves a marked file, never a row without its file.
        with catalog.transaction():
            catalog.db.execute("DELETE FROM generations WHERE id = ?", [picture.id])
        picture.path.unlink(missing_ok=True)
    return chosen


def _canonical(query: dict) -> str:
    return json.dumps(query, sort_keys=True, ensure_ascii=False)


def _from_row(catalog: Catalog, row: tuple) -> Generated:
    number, path, query, model, prior, decoder, seed, steps, guidance, parents, created_at, route = row
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
        id=number,
    )
