"""clipkit finds pictures by what they show.

The public names are imported when they are first used, so that `import clipkit` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from clipkit.telemetry import switch_off as _switch_off
from clipkit.version import __version__ as __version__

_switch_off()  # before anything else of clipkit can import what it concerns

_WHERE = {
    "Library": "library",
    "IndexReport": "indexing.report",
    "Filters": "catalog.filters",
    "Query": "searching.query",
    "Generated": "catalog.generations",
    "Hit": "searching.result",
    "SearchResult": "searching.result",
    "Marks": "marks.reading",
    "verify": "marks.reading",
    "Provenance": "marks.provenance",
    "save_marked": "marks.writing",
    "ModelEntry": "models.registry",
    "import_model": "models.hub.importing",
    "pull_model": "models.hub.pulling",
    **dict.fromkeys(
        (
            "BadQuery", "ClipkitError", "DecoderNotAvailable", "DownloadFailed", "FetchRefused", "LibraryBusy",
            "LibraryDamaged",
            "LibraryNotFound", "ModelNotAvailable", "UnreadableImage",
        ),
        "errors",
    ),
}  # fmt: skip

__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:
    from clipkit.catalog.filters import Filters as Filters
    from clipkit.catalog.generated import Generated as Generated
    from clipkit.errors import BadQuery as BadQuery
    from clipkit.errors import ClipkitError as ClipkitError
    from clipkit.errors import DecoderNotAvailable as DecoderNotAvailable
    from clipkit.errors import DownloadFailed as DownloadFailed
    from clipkit.errors import FetchRefused as FetchRefused
    from clipkit.errors import LibraryBusy as LibraryBusy
    from clipkit.errors import LibraryDamaged as LibraryDamaged
    from clipkit.errors import LibraryNotFound as LibraryNotFound
    from clipkit.errors import ModelNotAvailable as ModelNotAvailable
    from clipkit.errors import UnreadableImage as UnreadableImage
    from clipkit.indexing.report import IndexReport as IndexReport
    from clipkit.library import Library as Library
    from clipkit.marks.provenance import Provenance as Provenance
    from clipkit.marks.reading import Marks as Marks
    from clipkit.marks.reading import verify as verify
    from clipkit.marks.writing import save_marked as save_marked
    from clipkit.models.hub.importing import import_model as import_model
    from clipkit.models.hub.pulling import pull_model as pull_model
    from clipkit.models.registry import ModelEntry as ModelEntry
    from clipkit.searching.query import Query as Query
    from clipkit.searching.result import Hit as Hit
    from clipkit.searching.result import SearchResult as SearchResult


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(f"clipkit.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
