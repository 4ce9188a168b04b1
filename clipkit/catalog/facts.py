"""What a library holds, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from clipkit.catalog.catalog import LIVE, Catalog
from clipkit.catalog.spaces import coverage


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts of a library. `images` are files, `pictures` distinct contents; `spaces` is space id -> embedded pictures
    that a file still holds, the default space first; `orphans` are embeddings whose files have all gone; `bytes` of
    all files together."""

    images: int
    pictures: int
    bytes: int
    first_taken: str | None
    last_taken: str | None
    failures: dict[str, int]
    spaces: dict[str, int]
    orphans: int
    generated: int
    roots: list[str]

    def to_json(self) -> dict:
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Label and value, for people."""
        rows = [("pictures", f"{self.pictures:,} in {self.images:,} files, {self.bytes / 1e6:,.1f} MB")]
        if self.first_taken and self.last_taken:
            rows.append(("taken", f"{self.first_taken[:10]} to {self.last_taken[:10]}"))
        for space, count in self.spaces.items():
            # Rounded down: all but one of a million is not 100%.
            share = 100 * count // self.pictures if self.pictures else 100
            rows.append(("space", f"{space}: {count:,} of {self.pictures:,} pictures ({share}%)"))
        if self.failures:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.failures.items()))
            rows.append(("failed", f"{sum(self.failures.values()):,} files ({kinds})"))
        if self.orphans:
            rows.append(("kept", f"{self.orphans:,} embeddings of vanished pictures (`clipkit remove --orphans`)"))
        if self.generated:
            rows.append(("generated", f"{self.generated:,} pictures"))
        rows += [("folder", root) for root in self.roots]
        return rows


def facts(catalog: Catalog) -> Facts:
    """Counts the library."""
    execute = catalog.db.execute
    images, pictures, size, first, last = execute(
        "SELECT COUNT(*), COUNT(DISTINCT hash), COALESCE(SUM(size), 0), MIN(taken_at), MAX(taken_at) FROM images"
    ).fetchone()
    spaces = {covered.space: covered.embedded for covered in coverage(catalog)}
    return Facts(
        images=images,
        pictures=pictures,
        bytes=size,
        first_taken=first,
        last_taken=last,
        failures=dict(Counter(dict(execute("SELECT kind, COUNT(*) FROM failures GROUP BY kind").fetchall()))),
        spaces=spaces,
        orphans=execute(f"SELECT COUNT(*) FROM embeddings WHERE NOT {LIVE}").fetchone()[0],
        generated=execute("SELECT COUNT(*) FROM generations").fetchone()[0],
        roots=[str(root) for root, _ in catalog.roots()],
    )
