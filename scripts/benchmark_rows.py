"""The rows of the comparison with rclip: what is run, how often, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["search", "index", "few new", "new model"]


@dataclass(frozen=True)
class Row:
    """One comparison.

    name: what `--rows` selects it by. title: what the table says.
    count: pictures in the library, or files to index.
    quick: the same with `--quick`.
    size: width and height of the files to index.
    alone: clipkit only.
    named: the folder with the new pictures is named, so that only it is scanned.
    evicted: the index files are dropped from the page cache before each run.
    repeats: runs of each, unless `--repeats` says otherwise.
    ratio, seconds, megabytes, recall: targets; 0 for none.
    """

    name: str
    title: str
    kind: Kind
    count: int
    quick: int
    size: tuple[int, int] = (0, 0)
    alone: bool = False
    named: bool = False
    evicted: bool = False
    repeats: int = 5
    ratio: float = 0
    seconds: float = 0
    megabytes: float = 0
    recall: float = 0

    @property
    def target(self) -> str:
        """The targets in words."""
        parts = [f"at most {self.ratio:g}x"] if self.ratio else []
        parts += [f"at most {self.seconds:g} s"] if self.seconds else []
        parts += [f"at most {self.megabytes:g} MB"] if self.megabytes else []
        parts += [f"recall@10 at least {self.recall:g}"] if self.recall else []
        return ", ".join(parts)

    def judged(self, figures: dict) -> bool:
        """Return whether the figures of a run reach all targets."""
        return (
            (not self.ratio or figures["ratio"] <= self.ratio)
            and (not self.seconds or figures["clipkit"]["seconds"] <= self.seconds)
            and (not self.megabytes or figures["clipkit"]["peak_mb"] <= self.megabytes)
            and (not self.recall or figures["text_recall"] >= self.recall)
        )


ROWS = (
    Row("cold-22", "cold text query, 22 pictures", "search", 22, 22, repeats=9, ratio=0.35),
    Row("cold-1e5", "cold query, 100 thousand, page cache warm", "search", 10**5, 1000, repeats=7, ratio=0.25),
    Row(
        "cold-1e6",
        "cold query, 1 million, page cache warm",
        "search",
        10**6,
        3000,
        repeats=3,
        ratio=0.035,
        megabytes=500,
        recall=0.99,
    ),
    Row(
        "evicted-1e6",
        "cold query, 1 million, page cache evicted",
        "search",
        10**6,
        3000,
        alone=True,
        evicted=True,
        repeats=3,
        seconds=1.5,
    ),
    Row("index-small", "indexing photos of 300x200, fp32", "index", 200, 24, (300, 200), repeats=3, ratio=0.67),
    Row("index-large", "indexing photos of 12 megapixels", "index", 40, 4, (4000, 3000), repeats=3, ratio=0.5),
    Row(
        "few-new",
        "`clipkit index` after 20 new pictures, 1 million there",
        "few new",
        10**6,
        3000,
        (300, 200),
        alone=True,
        repeats=2,
        seconds=5,
    ),
    Row(
        "few-new-named",
        "`clipkit index FOLDER` after 20 new pictures in it, 1 million there",
        "few new",
        10**6,
        3000,
        (300, 200),
        alone=True,
        named=True,
        repeats=3,
        seconds=5,
    ),
    Row(
        "new-model", "first index with a new model", "new model", 22, 22, (300, 200), alone=True, repeats=2, seconds=20
    ),
)


def chosen(names: str) -> tuple[Row, ...]:
    """Return the rows of a comma-separated list of names; all for an empty one. Raises ValueError."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = set(wanted) - {row.name for row in ROWS}
    if unknown:
        raise ValueError(f"no row {', '.join(sorted(unknown))}: choose from {', '.join(row.name for row in ROWS)}")
    return tuple(row for row in ROWS if not wanted or row.name in wanted)


def photos_folder(work: Path, row: Row, count: int) -> Path:
    """Return the folder of the files that a row indexes."""
    return work / "photos" / f"{count}-of-{row.size[0]}x{row.size[1]}"
