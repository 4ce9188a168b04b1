"""The check of what is asked for, and of what was made, against the list of concepts that are not generated.

Texts are compared with the list word by word and by their embeddings. Of pictures, the embeddings are checked: those in
the query, the one that the decoder gets (after the prior), and that of every picture that it made. The check is on for
decoders of photographs, and off for the bundled one. docs/safety.md says what it finds and what it misses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import GenerationRefused
from clipkit.generation.registry import DecoderEntry
from clipkit.generation.safety_list import Concept, SafetyList
from clipkit.models.registry import BUNDLED
from clipkit.progress import ProgressCallback

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.generation.safety_detector import Detector


def is_on(entry: DecoderEntry, safety: bool | None) -> bool:
    """Return whether the check is on: as `safety` says, or if it is None, for all decoders but the bundled one."""
    if safety is not None:
        return safety
    return entry.folder is None or not entry.folder.is_relative_to(BUNDLED)


class Guard:
    """The check of one job: it refuses by raising GenerationRefused, and warns by a line, once for each concept."""

    def __init__(
        self,
        listed: SafetyList,
        entry: DecoderEntry,
        spaces: Sequence[str] = (),
        *,
        device: str = "auto",
        say: Callable[[str], None] | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Load no model yet. `spaces`: the library's models, which help out where the decoder has no towers."""
        self.listed, self.entry, self.spaces = listed, entry, spaces
        self.device, self.progress, self._say = device, progress, say
        self._checked_any = False
        self._warned: set[str] = set()
        self._of_query: list[str] = []
        self._of_picture: list[str] = []

    def take_warnings(self) -> list[str]:
        """Return the concepts that the query, or what was made since the last call, was warned about."""
        taken = list(dict.fromkeys([*self._of_query, *self._of_picture]))
        self._of_picture.clear()
        return taken

    def check_words(self, texts: Iterable[str]) -> None:
        """Check texts word by word, before any model is loaded or downloaded."""
        for text in texts:
            named = [concept for concept in self.listed.concepts if concept.is_named_in(text)]
            self._act(named, f"the text {text!r} asks for", self._of_query)

    def check_query(self, texts: Sequence[str], pictures: Sequence[Image | np.ndarray]) -> None:
        """Check by embeddings what a query wants.

        pictures: images, or their embeddings by the decoder's model, (d,) float32.
        """
        for text in texts if self._detectors else ():
            self._act(self._detectors[0].in_text(text), f"the text {text!r} asks for", self._of_query)
        for picture in pictures:
            found = self._in_embedding(picture) if isinstance(picture, np.ndarray) else self._in_picture(picture)
            self._act(found, "a picture of the query shows", self._of_query)

    def check_embedding(self, embedding: np.ndarray | None) -> None:
        """Check the image embedding, (d,) float32, that the decoder gets for its next picture."""
        if embedding is not None:
            self._act(self._in_embedding(embedding), "the picture would show", self._of_picture)

    def check_made(self, picture: Image) -> None:
        """Check a picture that was made, before it is saved; say once what cannot be checked on this machine."""
        if not self._checked_any:
            self._checked_any = True
            self._tell_what_is_left_out()
        self._act(self._in_picture(picture), "the picture that was made shows", self._of_picture)

    def _act(self, concepts: Iterable[Concept], what: str, warnings: list[str]) -> None:
        """Refuse or warn; `what` says how the concepts came up, `warnings` is added to."""
        for concept in sorted(concepts, key=lambda concept: concept.action == "warn"):
            because = f" ({concept.reason})" if concept.reason else ""
            line = f"{what} {concept.name!r}{because}; the list is {self.listed.path}, see `clipkit decoders safety`"
            if concept.action == "refuse":
                raise GenerationRefused(f"refused: {line}")
            warnings.append(concept.name)
            if concept.name not in self._warned:
                self._warned.add(concept.name)
                self._tell(f"warning: {line}")

    def _tell_what_is_left_out(self) -> None:
        if self.listed.concepts and not self._detectors:
            self._tell(
                f"no model on this machine compares texts with pictures for the decoder {self.entry.id}: texts were "
                "checked by their words only, and the pictures themselves were not checked"
            )
        elif self.listed.concepts and self._detectors[-1].towers.pictures is None:
            self._tell(
                f"the image tower of the decoder {self.entry.id} is not on this machine: the pictures themselves were "
                "not checked"
            )

    def _tell(self, line: str) -> None:
        if self._say is not None:
            self._say(line)

    def _in_picture(self, picture: Image) -> list[Concept]:
        return self._detectors[-1].in_picture(picture) if self._detectors else []

    def _in_embedding(self, embedding: np.ndarray) -> list[Concept]:
        able = [detector for detector in self._detectors if detector.towers.takes_embeddings]
        return able[0].in_embedding(embedding) if able else []

    @cached_property
    def _detectors(self) -> list[Detector]:
        """The best towers for texts; if they see no pictures, also the best that do, last."""
        if not self.listed.concepts:
            return []
        from clipkit.generation.safety_detector import Detector
        from clipkit.generation.safety_towers import find_towers

        found: list[Detector] = []
        for towers in find_towers(self.entry, self.spaces, self.device):
            if not found or towers.pictures:
                found.append(Detector.fit(towers, self.listed.concepts, self.progress))
            if towers.pictures:
                break
        return found
