"""The models of a library: their coverage, which one is the default, and how to remove one."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from clipkit.catalog.catalog import Catalog


@dataclass(frozen=True, slots=True)
class ModelCoverage:
    """How much of a library a model covers.

    `embedded`: pictures that have an embedding of the model.
    `pictures`: distinct contents of the library's files.
    `default`: searches use this model unless told otherwise.
    """

    model: str
    dimension: int
    embedded: int
    pictures: int
    default: bool

    @property
    def share(self) -> float:
        """The embedded fraction of the pictures, in [0, 1]; 1 for an empty library."""
        return self.embedded / self.pictures if self.pictures else 1.0

    def to_json(self) -> dict:
        """Return plain data, as the commands print it with `--json`."""
        return asdict(self)


def count_pictures(catalog: Catalog) -> int:
    """Return the number of distinct contents of the library's files."""
    return catalog.connection.execute("SELECT COUNT(*) FROM (SELECT DISTINCT hash FROM images)").fetchone()[0]


def count_uncovered(catalog: Catalog, embedded: int) -> int:
    """Return how many pictures have no vector in a space that has embedded `embedded` of them.

    If a library has only ever had one space the answer is 0, since files are committed with their embeddings. Contents
    are counted only otherwise, because that takes 0.2 s for a million.
    """
    several = "COUNT(*) > 1 OR MAX(COALESCE(json_extract(config, '$.one_of_several'), 0))"
    if not catalog.connection.execute(f"SELECT {several} FROM spaces").fetchone()[0]:
        return 0
    return max(0, count_pictures(catalog) - embedded)


def coverage(catalog: Catalog) -> list[ModelCoverage]:
    """Return the coverage of every space, the default one first."""
    total = count_pictures(catalog)
    return [
        ModelCoverage(space, dimension, catalog.count_searchable(space), total, number == 0)
        for number, (space, (dimension, _)) in enumerate(catalog.spaces().items())
    ]


def make_default(catalog: Catalog, space: str) -> None:
    """Make this the space that searches use by default."""
    with catalog.transaction():
        catalog.db.execute("UPDATE spaces SET config = json_remove(config, '$.default')")
        catalog.db.execute("UPDATE spaces SET config = json_set(config, '$.default', 1) WHERE id = ?", [space])


def remove_space(catalog: Catalog, space: str) -> int:
    """Remove a space and its embeddings in one transaction; return how many embeddings were removed."""
    with catalog.transaction():
        removed = catalog.db.execute("DELETE FROM embeddings WHERE space = ?", [space]).rowcount
        catalog.db.execute("DELETE FROM spaces WHERE id = ?", [space])
        catalog.db.execute("UPDATE spaces SET config = json_set(config, '$.one_of_several', 1)")
        # Files that only this space's model could not read no longer count as failures.
        catalog.db.execute("DELETE FROM failures WHERE path IN (SELECT path FROM images)")
    return removed
