"""What a user's name for a model refers to: resolved once, where it enters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipkit.models.registry import CONFIG, ModelEntry, entry


@dataclass(frozen=True)
class ModelRef:
    """A reference to a model, whose files need not be on this machine.

    id: the canonical id, under which catalogs, exports and decoders know the model: a registry id, an open_clip
        "NAME/TAG" in open_clip's spelling, "hf-hub:OWNER/REPOSITORY", the name of an imported model, or the absolute
        path of a checkpoint folder.
    entry: the registry's entry, or None.
    folder: the checkpoint folder of a bundled model or of one that is named by its path, or None.
    """

    id: str
    entry: ModelEntry | None = None
    folder: Path | None = None

    @classmethod
    def resolve(cls, text: str) -> ModelRef:
        """Resolve what a user typed: an id, in any spelling of its tag, or a path. Paths may be relative."""
        if known := entry(text):
            return cls(text, known, known.folder)
        folder = Path(text).expanduser()
        if (folder / CONFIG).is_file():
            return cls(str(folder.resolve()), None, folder.resolve())
        return cls.of(normalise_tag(text))

    @classmethod
    def of(cls, model_id: str) -> ModelRef:
        """Return the reference of a canonical id. It is not resolved again, so the working directory has no effect."""
        if known := entry(model_id):
            return cls(model_id, known, known.folder)
        folder = Path(model_id)
        return cls(model_id, None, folder if folder.is_absolute() and (folder / CONFIG).is_file() else None)


def normalise_tag(model_id: str) -> str:
    """Return a "NAME/TAG" with the tag as open_clip's table spells it: in lower case, with "_" for "-".

    Other ids are returned unchanged.
    """
    name, slash, tag = model_id.partition("/")
    if not slash or "/" in tag or "\\" in tag or ":" in name:
        return model_id
    return f"{name}/{tag.lower().replace('-', '_')}"
