"""How a picture was made, in few words."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

LONGEST = 2000
"""Characters of a text that are kept: a JPEG file holds its metadata in segments of 64 KiB."""


def _this_clipkit() -> str:
    from clipkit.version import __version__

    return f"clipkit {__version__}"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What went into a made picture.

    `query`: what was asked for, in words. `model`: the decoder's id. `seed`, `steps`, `guidance`: of the denoising.
    `created_at`: ISO 8601; clipkit's own pictures leave it to the catalog, so that the same seed gives the same file.
    Texts of more than 2,000 characters are cut.
    """

    query: str
    model: str
    seed: int
    steps: int | None = None
    guidance: float | None = None
    software: str = field(default_factory=_this_clipkit)
    created_at: str | None = None

    def __post_init__(self) -> None:
        for name in ("query", "model", "software", "created_at"):
            if getattr(self, name) is None:
                continue
            text = str(getattr(self, name))
            if len(text) > LONGEST:
                text = text[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
            object.__setattr__(self, name, text)

    def to_json(self) -> dict:
        """Plain data; what is None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_text(self) -> str:
        """One line of ASCII, the same for the same provenance."""
        return json.dumps(self.to_json(), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Provenance | None:
        """The provenance that `to_text` wrote; None for any other text."""
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
