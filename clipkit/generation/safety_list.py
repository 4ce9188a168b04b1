"""The list of concepts that are not generated, or with a warning: which one is in force, read and checked."""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from clipkit.catalog.layout import Layout
from clipkit.errors import GenerationRefused
from clipkit.searching.query import has_words

Action = Literal["refuse", "warn"]

FILE = "safety.toml"
PACKAGED = Path(__file__).with_name(FILE)
_KEYS = ("name", "action", "reason", "phrasings")
_ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Concept:
    """One entry of the list; see the comments of `safety.toml` for its fields."""

    name: str
    action: Action
    reason: str
    phrasings: tuple[str, ...]

    def is_named_in(self, text: str) -> bool:
        """Return whether a text contains one of the phrasings, apart from capitals, articles and a plural's s."""
        words = _words(text)
        for phrasing in map(_words, self.phrasings):
            wanted = phrasing[1:] if phrasing[0] in _ARTICLES and len(phrasing) > 1 else phrasing
            starts = range(len(words) - len(wanted) + 1)
            if any(all(map(_same, words[start:], wanted)) for start in starts):
                return True
        return False


@dataclass(frozen=True)
class SafetyList:
    """The concepts of a list and the file that they come from."""

    path: Path
    concepts: tuple[Concept, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as `clipkit decoders safety --json` prints it."""
        concepts = [asdict(concept) | {"phrasings": list(concept.phrasings)} for concept in self.concepts]
        return {"path": str(self.path), "concepts": concepts}


def places(layout: Layout | None = None) -> list[Path]:
    """Return where a list may be, the one that counts first: in the library's folder, the user's, the package's."""
    import platformdirs

    own = [layout.folder / FILE] if layout else []
    return [*own, Path(platformdirs.user_config_dir("clipkit", appauthor=False)) / FILE, PACKAGED]


def list_in_force(layout: Layout | None = None) -> SafetyList:
    """Read the list that counts for a library, or without one. Raises GenerationRefused if it has mistakes."""
    return read_list(next((path for path in places(layout) if path.exists()), PACKAGED))


def read_list(path: Path) -> SafetyList:
    """Read a list. Raises GenerationRefused, with the first mistake in one line: a list half read protects nobody."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
        return SafetyList(path, tuple(_concepts(data)))
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except ValueError as error:
        reason = " ".join(str(error).split())
    raise GenerationRefused(f"the list {path} cannot be used: {reason}; correct it, or delete it for clipkit's own")


def _concepts(data: dict[str, Any]) -> Iterator[Concept]:
    """Yield the concepts of a list. Raises ValueError."""
    if unknown := sorted(data.keys() - {"concept"}):
        raise ValueError(f"{unknown[0]!r} is not part of a list; entries begin with [[concept]]")
    entries = data.get("concept")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it has no [[concept]]; write concept = [] for a list of nothing")
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        concept = _concept(entry, number)
        if concept.name.casefold() in seen:
            raise ValueError(f"there are two concepts {concept.name!r}; join them")
        seen.add(concept.name.casefold())
        yield concept


def _concept(entry: dict[str, Any], number: int) -> Concept:
    name = entry.get("name")
    if not isinstance(name, str) or not has_words(name) or len(name.splitlines()) > 1:
        raise ValueError(f'concept {number} needs a name on one line, as in name = "weapons"')
    if unknown := sorted(entry.keys() - set(_KEYS)):
        raise ValueError(f"{name!r} has {unknown[0]!r}, which is none of {', '.join(_KEYS)}")
    action = entry.get("action")
    if action not in ("refuse", "warn"):
        raise ValueError(f'the action of {name!r} must be "refuse" or "warn", not {action!r}')
    reason = entry.get("reason", "")
    if not isinstance(reason, str) or len(reason.splitlines()) > 1:
        raise ValueError(f"the reason of {name!r} must be a text on one line")
    phrasings = entry.get("phrasings")
    if not isinstance(phrasings, list) or not phrasings or not all(isinstance(p, str) for p in phrasings):
        raise ValueError(f'{name!r} needs phrasings, a list of texts that mean it, as in phrasings = ["a gun"]')
    if wordless := [phrasing for phrasing in phrasings if not _words(phrasing)]:
        raise ValueError(f"{name!r} has the phrasing {wordless[0]!r}, which has no words")
    return Concept(name, action, reason, tuple(phrasings))


def _words(text: str) -> list[str]:
    """Return the words of a text, in small letters; characters that are not shown are dropped."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    shown = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return "".join(c if c.isalnum() or unicodedata.category(c) in ("So", "Mn", "Mc") else " " for c in shown).split()


def _same(word: str, wanted: str) -> bool:
    return word in (wanted, f"{wanted}s", f"{wanted}es") or wanted in (f"{word}s", f"{word}es")
