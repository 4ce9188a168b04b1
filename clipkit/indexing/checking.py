"""Is a library whole? The catalog is the truth; the search index is rebuilt from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clipkit.errors import ClipkitError
from clipkit.progress import Progress, ProgressCallback
from clipkit.vectors.publishing import find_damage

if TYPE_CHECKING:
    from clipkit.library import Library


@dataclass(slots=True)
class CheckReport:
    """What was looked at, what is wrong, and what of it was repaired, each a line for people."""

    library: str
    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if nothing is wrong any more."""
        return not self.problems

    def to_json(self) -> dict:
        """Plain data, as `clipkit check --json` prints it."""
        return {
            "library": self.library,
            "ok": self.ok,
            "checked": self.checked,
            "problems": self.problems,
            "repaired": self.repaired,
        }

    def lines(self) -> list[str]:
        """The report, a line each."""
        lines = [f"ok        {line}" for line in self.checked]
        lines += [f"repaired  {line}" for line in self.repaired]
        lines += [f"PROBLEM   {line}" for line in self.problems]
        return lines


def check(library: Library, *, repair: bool, progress: ProgressCallback | None = None) -> CheckReport:
    """Checks the catalog, then every space's search index; `repair` rebuilds indexes and needs the space's model."""
    report = CheckReport(library.name)
    torn = library.catalog.find_damage()
    if torn:
        report.problems.append(f"catalog.db is damaged ({torn}): put a backup in its place, or index again")
        return report
    report.checked.append("catalog.db")
    spaces = list(library.catalog.spaces())
    for number, space in enumerate(spaces):
        if progress:
            progress(Progress("checking", number, len(spaces)))
        wrong = find_damage(library.vectors_folder(space))
        if not wrong:
            report.checked.append(f"search index of {space}")
        elif repair:
            try:
                _rebuild(library, space, progress)
                report.repaired.append(f"search index of {space} ({wrong})")
            except ClipkitError as error:
                report.problems.append(f"{wrong}, and it could not be rebuilt: {error}")
        else:
            report.problems.append(f"{wrong}; `clipkit check --repair` rebuilds it")
    return report


def _rebuild(library: Library, space: str, progress: ProgressCallback | None) -> None:
    from clipkit.models.encoder import load_encoder
    from clipkit.searching.searcher import Searcher

    with library.catalog.writing():
        searcher = Searcher(library.catalog, load_encoder(space, search=True), library.vectors_folder(space))
        searcher.publish_if_needed(always=True, progress=progress)
