"""The record of pictures that were made: what was asked for, by which models, from which seed."""

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
    """A picture that was made, not found.

    `query` is plain data as `Query.to_json` gives it; `parents` the pictures it was made to resemble. `route`
    says of each term how it got to the decoder. `id` is its number in the library's record, None where there is no
    library.
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
        """The keys that `clipkit search --json` and `clipkit generate --json` promise."""
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


def record_generated(catalog: Catalog, made: Generated, put: Callable[[], None]) -> Generated:
    """Writes the row, calls `put`, which puts the file in its place whole, and commits: killed anywhere, there is no
    row without its file."""
    folder = catalog.path.parent
    path = made.path.relative_to(folder) if made.path.is_relative_to(folder) else made.path
    with catalog.transaction():
        cursor = catalog.db.execute(
            "INSERT INTO generations (path, query, space, prior, decoder, seed, steps, guidance, parents, created_at,"
            " route) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET query = excluded.query,"
            " space = excluded.space, prior = excluded.prior, decoder = excluded.decoder, seed = excluded.seed,"
            " steps = excluded.steps, guidance = excluded.guidance, parents = excluded.parents,"
            " created_at = excluded.created_at, route = excluded.route RETURNING id",
            [
                to_stored(path), _canonical(made.query), made.model, made.prior, made.decoder, made.seed, made.steps,
                made.guidance, json.dumps(list(made.parents)), made.created_at, json.dumps(list(made.route)),
            ],
        )  # fmt: skip
        number = cursor.fetchone()[0]
        put()
    return replace(made, id=number)


def list_generated(catalog: Catalog) -> Iterator[Generated]:
    """All pictures that were made and are still there, the oldest first."""
    rows = catalog.db.execute(f"SELECT {_COLUMNS} FROM generations ORDER BY id")
    return (made for made in map(_from_row(catalog), rows) if made.path.is_file())


def find_generated(catalog: Catalog, query: dict, decoder: str) -> Generated | None:
    """The newest picture that the decoder made of this very query, if it is still there."""
    rows = catalog.db.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE query = ? AND decoder = ? ORDER BY id DESC",
        [_canonical(query), decoder],
    )
    return next((made for made in map(_from_row(catalog), rows) if made.path.is_file()), None)


def delete_generated(catalog: Catalog, numbers: Sequence[int] | None = None) -> list[Generated]:
    """Deletes pictures by their numbers, or all, rows and files; returns those that were there."""
    chosen = [made for made in list_generated(catalog) if numbers is None or made.id in numbers]
    for made in chosen:
        # The row first: a kill between the two leaves a marked file, never a row that points nowhere.
        with catalog.transaction():
            catalog.db.execute("DELETE FROM generations WHERE id = ?", [made.id])
        made.path.unlink(missing_ok=True)
    return chosen


def _canonical(query: dict) -> str:
    return json.dumps(query, sort_keys=True, ensure_ascii=False)


def _from_row(catalog: Catalog) -> Callable[[tuple], Generated]:
    def make(row: tuple) -> Generated:
        number, path, query, space, prior, decoder, seed, steps, guidance, parents, created_at, route = row
        return Generated(
            catalog.path.parent / from_stored(path), json.loads(query), space, prior, decoder, seed, steps, guidance,
            created_at, tuple(json.loads(parents)), tuple(json.loads(route)), number,
        )  # fmt: skip

    return make
