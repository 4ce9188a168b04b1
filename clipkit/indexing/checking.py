"""Checking and repairing a library: the search indexes can be rebuilt from the catalog."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.layout import Layout
from clipkit.errors import ClipkitError
from clipkit.indexing.search_index import publish_search_index
from clipkit.progress import Progress, ProgressCallback
from clipkit.vectors.publishing import find_damage


@dataclass(slots=True)
class CheckReport:
    """What was checked and is sound, what is damaged, and what was repaired: a line each."""

    library: str
    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if there is no damage, or all of it was repaired."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as `clipkit check --json` prints it."""
        return {
            "library": self.library,
            "ok": self.ok,
            "checked": self.checked,
            "problems": self.problems,
            "repaired": self.repaired,
        }

    def lines(self) -> list[str]:
        """Return the report for people, a line each."""
        lines = [f"ok        {line}" for line in self.checked]
        lines += [f"repaired  {line}" for line in self.repaired]
        lines += [f"PROBLEM   {line}" for line in self.problems]
        return lines


def check(catalog: Catalog, layout: Layout, *, repair: bool, progress: ProgressCallback | None = None) -> CheckReport:
    """Check the catalog, then the search index of every model; `repair` rebuilds indexes, for which it loads models."""
    report = CheckReport(layout.name)
    if damaged := catalog.find_damage():
        report.problems.append(f"catalog.db is damaged ({damaged}); restore it from a backup, or index again")
        return report
    report.checked.append("catalog.db")
    models = list(catalog.spaces())
    for number, model in enumerate(models):
        if progress:
            progress(Progress("checking", number, len(models)))
        damaged = find_damage(layout.vectors(model))
        if not damaged:
            report.checked.append(f"search index of {model}")
        elif repair:
            try:
                _rebuild(catalog, layout, model, progress)
                report.repaired.append(f"search index of {model} ({damaged})")
            except ClipkitError as error:
                report.problems.append(f"{damaged}, and it could not be rebuilt: {error}")
        else:
            report.problems.append(f"{damaged}; `clipkit check --repair` rebuilds it")
    return report


def _rebuild(catalog: Catalog, layout: Layout, model: str, progress: ProgressCallback | None) -> None:
    from clipkit.models.loading import load_encoder

    with catalog.writing():
        publish_search_index(catalog, layout, load_encoder(model, search=True), always=True, progress=progress)
