"""What the match decision is judged on: libraries with queries whose answers are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from match_baselines import Floats, unit

from clipkit.matching import PHOTOGRAPHS, Calibration

AMBIGUOUS = {"orange", "bat", "log", "mat", "box", "slide", "locker", "table", "woman", "cape"}
SIZES = (1, 10, 100)


@dataclass(frozen=True)
class Case:
    """One library with its bank and queries.

    Attributes:
        library: (n, d). bank: (c, d). queries: (q, d).
        present: (q,) bool, whether the library has what the query asks for.
        group: (q,), what must not be in training and test at once, such as the noun.
        kind: what the table calls it.
        weights: the calibration of the model.
        known: (q,), the factor by which a search lowers the confidence for words that the model does not know.
        shows: (q, n) bool, the pictures that show what the query asks for, where that is known.
    """

    library: Floats
    bank: Floats
    queries: Floats
    present: np.ndarray
    group: np.ndarray
    kind: str = "text"
    weights: Calibration = PHOTOGRAPHS
    known: np.ndarray | float = 1.0
    shows: np.ndarray | None = None


class DataSet(Protocol):
    """A name and its cases."""

    name: str

    def cases(self) -> Iterable[Case]: ...


@dataclass(frozen=True)
class Recorded:
    """A library with labelled queries of several kinds, such as the scenes of the bundled model `tiny`."""

    name: str
    library: Floats  # (n, d)
    bank: Floats  # (c, d)
    queries: Floats  # (q, d)
    kinds: np.ndarray  # (q,) of str, such as "absent object", "absent combination", "unknown word"
    present: np.ndarray  # (q,) bool
    known: np.ndarray  # (q,) in [0, 1]
    shows: np.ndarray | None = None  # (q, n) bool
    parts: np.ndarray | None = None  # (p, d), the parts of queries that have several
    part_of: np.ndarray | None = None  # (p,), the row of the query that each belongs to
    weights: Calibration = PHOTOGRAPHS

    @classmethod
    def tiny(cls) -> Recorded:
        """Return the scenes of the bundled model, see `match_scenes`."""
        from match_scenes import scene_vectors

        from clipkit.models.loading import load_encoder

        weights = Calibration.from_json(load_encoder("tiny", "cpu").match)
        return cls("tiny", **scene_vectors(), weights=weights)

    @classmethod
    def load(cls, path: Path) -> Recorded:
        """Read library_vectors, concept_vectors, query_vectors, query_kinds and present from one .npz file."""
        with np.load(path, allow_pickle=False) as file:
            vectors = (unit(file[key].astype("f4")) for key in ("library_vectors", "concept_vectors", "query_vectors"))
            kinds = file["query_kinds"]
            return cls(path.stem, *vectors, kinds, file["present"].astype(bool), np.ones(len(kinds)))

    def all(self) -> Case:
        """Return all queries of all kinds as one case."""
        return self._case(np.arange(len(self.kinds)), "all")

    def cases(self) -> Iterator[Case]:
        """Yield one case a kind: its absent queries against its present ones, or against all if it has none."""
        for kind in np.unique(self.kinds):
            here = self.kinds == kind
            if self.present[here].all():
                continue
            rows = np.flatnonzero((here & ~self.present) | (self.present & (here | ~self.present[here].any())))
            if not self.present[rows].any():
                rows = np.flatnonzero(here | self.present)
            yield self._case(rows, str(kind))

    def parts_of(self, row: int) -> Floats | None:
        """Return the vectors of a query's parts, if it has several."""
        return None if self.parts is None else self.parts[self.part_of == row]

    def _case(self, rows: np.ndarray, kind: str) -> Case:
        return Case(
            library=self.library,
            bank=self.bank,
            queries=self.queries[rows],
            present=self.present[rows],
            group=rows,
            kind=kind,
            weights=self.weights,
            known=self.known[rows],
            shows=None if self.shows is None else self.shows[rows],
        )


@dataclass(frozen=True)
class RealClip:
    """Photos and nouns with their captions' counts; each noun is a query with and without the photos that name it."""

    name: str
    images: Floats
    texts: Floats
    names: np.ndarray
    mentions: np.ndarray
    strong: int = 2
    share: float = 0.4

    @classmethod
    def load(cls, path: Path) -> RealClip:
        """Read a file in the format of ../shared/real_clip."""
        with np.load(path, allow_pickle=False) as file:
            images, texts = (unit(file[key].astype("f4")) for key in ("image_vectors", "text_vectors"))
            return cls("salient", images, texts, file["names"], file["mentions"])

    def some(self, name: str, photos: np.ndarray | None = None, strong: int = 2, share: float = 0.4) -> RealClip:
        """Return a part of the photos, (m,) rows, or other demands on the nouns."""
        photos = np.arange(len(self.images)) if photos is None else photos
        return RealClip(name, self.images[photos], self.texts, self.names, self.mentions[:, photos], strong, share)

    def nouns(self) -> list[int]:
        """Return the rows of the nouns to ask for: captions name them often where they name them at all."""
        clear, any_ = (self.mentions >= 3).sum(1), (self.mentions >= 1).sum(1)
        kept = (clear >= self.strong) & (any_ <= 200) & (clear >= self.share * any_)
        return [i for i in np.flatnonzero(kept) if self.names[i] not in AMBIGUOUS]

    def cases(self) -> Iterator[Case]:
        """Yield each noun twice: with all photos, and without those that name it."""
        for i in self.nouns():
            for present in (True, False):
                library = self.images if present else self.images[self.mentions[i] == 0]
                yield self._case(i, library, present)

    def present_cases(self) -> Iterator[Case]:
        """Yield each noun with all photos."""
        for i in self.nouns():
            yield self._case(i, self.images, True)

    def small_cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Yield libraries of 1 to 100 photos, one of which shows the noun, or none."""
        for i, size in itertools.product(self.nouns(), SIZES):
            without = rng.permutation(np.flatnonzero(self.mentions[i] == 0))[:size]
            shown = rng.permutation(np.flatnonzero(self.mentions[i] >= 3))[:1]
            yield self._case(i, self.images[without], False)
            yield self._case(i, self.images[np.concatenate([without[1:], shown])], True)

    def _case(self, i: int, library: Floats, present: bool) -> Case:
        shows = (self.mentions[i : i + 1] > 0) if library is self.images else None
        return Case(
            library=library,
            bank=np.delete(self.texts, i, axis=0),
            queries=self.texts[i : i + 1],
            present=np.array([present]),
            group=np.array([self.names[i]]),
            shows=shows,
        )
