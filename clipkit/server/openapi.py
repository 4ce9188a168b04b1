"""The description of the API: openapi.json beside this file, with the version of clipkit filled in."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from clipkit.version import __version__


@cache
def description() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description."""
    document = json.loads((Path(__file__).parent / "openapi.json").read_text("utf-8"))
    document["info"]["version"] = __version__
    return document
