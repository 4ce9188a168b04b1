"""What a library holds, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from clipkit.catalog.catalog import HAS_FILE, Catalog
from clipkit.catalog.coverage import coverage


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    """Counts of a library. `images` are files that searches show, `pictures` distinct contents of them, `bytes` their
    size; `models` is model id -> embedded pictures that such a file still holds, the default model first; `orphans` are
    embeddings whose files have all gone.

    `generated` counts pictures that a model made: those that this library made itself, and `marked` files in its
    folders whose marks say so, of which `marked_shown` were included in searches, and are counted in `images` as well.
    """

    images: int
    pictures: int
    bytes: int
    first_taken: str | None
    last_taken: str | None
    failures: dict[str, int]
    models: dict[str, int]
    orphans: int
    generated: int
    marked: int
    marked_shown: int
    roots: list[str]

    def to_json(self) -> dict:
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Label and value, for people."""
        rows = [("pictures", f"{self.pictures:,} in {self.images:,} files, {self.bytes / 1e6:,.1f} MB")]
        if self.first_taken and self.last_taken:
            rows.append(("taken", f"{self.first_taken[:10]} to {self.last_taken[:10]}"))
        for model, count in self.models.items():
            # Rounded down: all but one of a million is not 100%.
            share = 100 * count // self.pictures if self.pictures else 100
            rows.append(("model", f"{model}: {count:,} of {self.pictures:,} pictures ({share}%)"))
        if self.failures:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.failures.items()))
            rows.append(("failed", f"{sum(self.failures.values()):,} files ({kinds})"))
        if self.orphans:
            rows.append(("kept", f"{self.orphans:,} embeddings of vanished pictures (`clipkit remove --orphans`)"))
        if self.generated:
            rows.append(("generated", self._generated()))
        rows += [("folder", root) for root in self.roots]
        return rows

    def _generated(self) -> str:
        own, hidden = self.generated - self.marked, self.marked - self.marked_shown
        parts = [f"{own:,} made by this library"] if own else []
        if self.marked_shown:
            parts.append(f"{self.marked_shown:,} marked files that searches include")
        if hidden:
            parts.append(f"{hidden:,} marked files left out of searches (`clipkit index --include-generated`)")
        return f"{self.generated:,} pictures: {', '.join(parts)}"


def library_info(catalog: Catalog) -> LibraryInfo:
    """Counts the library."""
    execute = catalog.db.execute
    images, pictures, size, first, last = execute(
        "SELECT COUNT(*), COUNT(DISTINCT hash), COALESCE(SUM(size), 0), MIN(taken_at), MAX(taken_at)"
        " FROM images WHERE shown"
    ).fetchone()
    marked, marked_shown = execute(
        "SELECT COUNT(*), COALESCE(SUM(shown), 0) FROM images WHERE generated IS NOT NULL"
    ).fetchone()
    models = {covered.model: covered.embedded for covered in coverage(catalog)}
    return LibraryInfo(
        images=images,
        pictures=pictures,
        bytes=size,
        first_taken=first,
        last_taken=last,
        failures=dict(Counter(dict(execute("SELECT kind, COUNT(*) FROM failures GROUP BY kind").fetchall()))),
        models=models,
        orphans=execute(f"SELECT COUNT(*) FROM embeddings WHERE NOT {HAS_FILE}").fetchone()[0],
        generated=marked + execute("SELECT COUNT(*) FROM generations").fetchone()[0],
        marked=marked,
        marked_shown=marked_shown,
        roots=[str(root) for root, _ in catalog.roots()],
    )
