"""The provenance of a generated picture: query, model, seed and settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

MAX_TEXT_LENGTH = 2000
"""Longer texts are cut, because JPEG limits a metadata segment to 64 KiB."""

_TEXTS = (
    *("query", "model", "software", "created_at"),
    *("operation", "parent", "parent_name", "parent_marks", "region"),
)


def _software() -> str:
    from clipkit.version import __version__

    return f"clipkit {__version__}"


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a picture was generated. Texts are cut to `MAX_TEXT_LENGTH` characters.

    `query`: the query in words.
    `model`: the decoder's id, or the upscaler's; empty if no model made anything of it.
    `seed`, `steps`, `guidance`: settings of the sampler.
    `operation`: the command that made it, such as "vary"; None for pictures generated from a query.
    `parent`: the hash of the picture that was edited, as in a library's catalog; `parent_name`: its file name;
    `parent_marks`: what marks it carried. `region`: the box around what is new, "x,y,width,height" in pixels.
    `created_at`: ISO 8601. clipkit records it in the catalog only, so that the same seed yields the same file.
    """

    query: str
    model: str
    seed: int
    steps: int | None = None
    guidance: float | None = None
    software: str = field(default_factory=_software)
    created_at: str | None = None
    operation: str | None = None
    parent: str | None = None
    parent_name: str | None = None
    parent_marks: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        for name in _TEXTS:
            if getattr(self, name) is None:
                continue
            text = str(getattr(self, name))
            if len(text) > MAX_TEXT_LENGTH:
                text = text[: MAX_TEXT_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"
            object.__setattr__(self, name, text)

    def to_json(self) -> dict[str, Any]:
        """Return plain data without the fields that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_text(self) -> str:
        """Return one line of ASCII; deterministic."""
        return json.dumps(self.to_json(), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Provenance | None:
        """Parse the output of `to_text`; return None for any other text."""
        try:
            found = json.loads(text)
            if not (str(found["software"]).startswith("clipkit ") and isinstance(found["seed"], int)):
                return None
            known = {f.name for f in fields(cls)}
            numbers = (found.get(name, 0) for name in ("steps", "guidance"))
            if not all(isinstance(n, int | float) for n in numbers):
                return None
            return cls(**{name: value for name, value in found.items() if name in known})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
