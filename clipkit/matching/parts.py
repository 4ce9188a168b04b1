"""The parts of a query that a picture must all show: "a dog on the beach" is a dog, and a beach."""

from __future__ import annotations

import re

PLACES = ("on", "in", "at", "under", "by", "among", "near", "inside", "outside", "over", "behind")
"""Prepositions that begin a part of their own, with the words that follow."""

_ARTICLES = ("a", "an", "the")
_FRAME = re.compile(r"^\s*(?:there (?:is|are)|(?:an? |the )?(?:picture|photo|photograph|image|scene)s?(?: of)?)\s+")
_SIDE = re.compile(r"\b(?:to|on) the (?:left|right)\b(?: of\b)?|\b(?:left|right|on top) of\b|\b(?:next to|beside)\b")
_JOINT = re.compile(rf"\s*(?:,|;|\band\b|\bwith\b|\babove\b|\bbelow\b|\bbeneath\b|\b(?={'|'.join(PLACES)})\b)\s*")


def parts_of(text: str) -> tuple[str, ...]:
    """Split a query at its commas, "and", "with" and prepositions, in order; a query of one part is its only part.

    The split follows plain rules, without a parser: "a dog and a cat in the snow" has the parts "a dog", "a cat" and
    "in the snow". Frames such as "a photo of" and words for sides, such as "left of", are left out.
    """
    plain = _SIDE.sub(" , ", " ".join(text.lower().split()))
    pieces = (_FRAME.sub("", piece + " ").strip() for piece in _JOINT.split(plain))
    kept = tuple(dict.fromkeys(piece for piece in pieces if re.search(r"\w", piece) and piece not in PLACES))
    return kept or (text,)


def standalone(part: str) -> str:
    """Return a part as a text that stands alone: "in the snow" becomes "a picture in the snow"."""
    return f"a picture {part}" if part.split()[0] in PLACES else part


def lacking(part: str) -> str:
    """Return in words that a picture lacks a part: "no beach" for "on the beach", "not at night" for "at night"."""
    words = part.split()
    place = words[0] in PLACES
    if place and (len(words) < 3 or words[1] not in _ARTICLES):
        return f"not {part}"
    rest = words[1:] if place else words
    return "no " + " ".join(rest[1:] if len(rest) > 1 and rest[0] in _ARTICLES else rest)
