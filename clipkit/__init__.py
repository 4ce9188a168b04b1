"""Search pictures by what they show, and generate the ones that are missing.

Public names are imported on first use, which keeps `import clipkit` cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from clipkit.telemetry import switch_off as _switch_off
from clipkit.version import __version__ as __version__

_switch_off()  # before clipkit imports any of the libraries concerned

_MODULE_OF = {
    "BadQuery": "errors",
    "Client": "client.client",
    "ClipkitError": "errors",
    "DecoderNotAvailable": "errors",
    "DownloadFailed": "errors",
    "FetchRefused": "errors",
    "Filters": "catalog.filters",
    "Generated": "catalog.generated",
    "Hit": "searching.result",
    "IndexReport": "indexing.report",
    "Library": "library",
    "LibraryBusy": "errors",
    "LibraryDamaged": "errors",
    "LibraryNotFound": "errors",
    "Marks": "marks.reading",
    "ModelEntry": "models.registry",
    "ModelNotAvailable": "errors",
    "Provenance": "marks.provenance",
    "Query": "searching.query",
    "SearchResult": "searching.result",
    "ServerError": "client.transport",
    "UnreadableImage": "errors",
    "import_model": "models.hub.importing",
    "pull_model": "models.hub.pulling",
    "save_marked": "marks.writing",
    "verify": "marks.reading",
}

__all__ = ["__version__", *sorted(_MODULE_OF)]

if TYPE_CHECKING:
    from clipkit.catalog.filters import Filters as Filters
    from clipkit.catalog.generated import Generated as Generated
    from clipkit.client.client import Client as Client
    from clipkit.client.transport import ServerError as ServerError
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
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"clipkit.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
