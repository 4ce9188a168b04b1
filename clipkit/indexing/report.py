"""What a run of the indexer tells at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace


@dataclass(slots=True)
class IndexReport:
    """The counts of one run of `Library.index`, in files.

    `added` files are new and `changed` ones have other bytes than before; `moved` were known under another path;
    `duplicates` (among the added) hold the same bytes as another file; `embedded` counts pictures that went through
    the image tower; `images` is how many files the library has now. `notes` are lines for the user.
    """

    library: str
    space: str
    scanned: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    duplicates: int = 0
    removed: int = 0
    failed: int = 0
    embedded: int = 0
    images: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def plus(self, other: IndexReport) -> IndexReport:
        """The counts of both runs together."""
        counts = (f.name for f in fields(self) if f.name not in ("library", "space"))
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in counts})

    def to_json(self) -> dict:
        """Plain data, as `clipkit index --json` prints it."""
        values = asdict(self)
        del values["notes"]
        return {**values, "seconds": round(self.seconds, 3)}
