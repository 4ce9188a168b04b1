"""The models of a library: how many of its pictures each covers, and which one is the default."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from clipkit.catalog.catalog import IS_SEARCHABLE, Catalog


@dataclass(frozen=True, slots=True)
class ModelCoverage:
    """`embedded` of the library's `pictures` (distinct contents that some file holds) have a vector in the space.

    `default`: it is the one that a search looks in unless it names another.
    """

    model: str
    dimension: int
    embedded: int
    pictures: int
    default: bool

    @property
    def share(self) -> float:
        """What it covers of the library, in [0, 1]; 1 for an empty library."""
        return self.embedded / self.pictures if self.pictures else 1.0

    def to_json(self) -> dict:
        """Plain data, as `clipkit models list --json` has it."""
        return asdict(self)


def count_pictures(catalog: Catalog) -> int:
    """How many distinct contents the library's files hold."""
    return catalog.db.execute("SELECT COUNT(*) FROM (SELECT DISTINCT hash FROM images)").fetchone()[0]


def count_uncovered(catalog: Catalog, embedded: int) -> int:
    """How many pictures of the library a space that has `embedded` of them lacks.

    The only space that a library ever had lacks none, for files are recorded together with their embeddings; counting
    contents takes a fifth of a second for a million, so they are counted only where there are, or were, several.
    """
    several = "COUNT(*) > 1 OR MAX(COALESCE(json_extract(config, '$.one_of_several'), 0))"
    if not catalog.db.execute(f"SELECT {several} FROM spaces").fetchone()[0]:
        return 0
    return max(0, count_pictures(catalog) - embedded)


def coverage(catalog: Catalog) -> list[ModelCoverage]:
    """Every space of the library, the default one first."""
    total = count_pictures(catalog)
    counts = dict(
        catalog.db.execute(f"SELECT space, COUNT(*) FROM embeddings WHERE {IS_SEARCHABLE} GROUP BY space").fetchall()
    )
    return [
        ModelCoverage(space, dimension, counts.get(space, 0), total, number == 0)
        for number, (space, (dimension, _)) in enumerate(catalog.spaces().items())
    ]


def make_default(catalog: Catalog, space: str) -> None:
    """Has searches look in this space unless they name another."""
    with catalog.transaction():
        catalog.db.execute("UPDATE spaces SET config = json_remove(config, '$.default')")
        catalog.db.execute("UPDATE spaces SET config = json_set(config, '$.default', 1) WHERE id = ?", [space])


def remove_space(catalog: Catalog, space: str) -> int:
    """Takes a space and its embeddings out of the catalog, at once or not at all; returns how many embeddings."""
    with catalog.transaction():
        removed = catalog.db.execute("DELETE FROM embeddings WHERE space = ?", [space]).rowcount
        catalog.db.execute("DELETE FROM spaces WHERE id = ?", [space])
        catalog.db.execute("UPDATE spaces SET config = json_set(config, '$.one_of_several', 1)")
        # Files that only this space's model could not read are no failures of the library any more.
        catalog.db.execute("DELETE FROM failures WHERE path IN (SELECT path FROM images)")
    return removed
