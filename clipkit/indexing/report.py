"""What a run of the indexer tells at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace


@dataclass(slots=True)
class IndexReport:
    """The counts of one run of `Library.index`, in files.

    `added` files are new and `changed` ones have other bytes than before; `moved` were known under another path;
    `duplicates` (among the added) hold the same bytes as another file; `embedded` counts pictures that went through
    the image tower; `images` is how many files of the library searches show now, `generated` how many have marks that
    say that a model made them, which searches leave out unless they were included. `seconds` is how long it took, with
    the loading of the model and the search index. `space` is the first of the `spaces` that were brought up to date;
    `notes` say which could not be, and why, and which folders are away, so that their pictures are kept.
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
    generated: int = 0
    seconds: float = 0.0
    spaces: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def and_in(self, other: IndexReport) -> IndexReport:
        """The counts of two runs over the same files, in two spaces: a file counts once, an embedding each time."""
        return replace(
            self,
            failed=max(self.failed, other.failed),
            embedded=self.embedded + other.embedded,
            seconds=self.seconds + other.seconds,
            spaces=[*self.spaces, *other.spaces],
        )

    def to_json(self) -> dict:
        """Plain data, as `clipkit index --json` prints it."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}
