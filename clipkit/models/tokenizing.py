"""Tokenising without torch, with the same results as open_clip's tokenizers, from the same files."""

from __future__ import annotations

import importlib.util
import re
import string
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from clipkit.errors import ModelNotAvailable

_PLAIN = re.compile(r"[A-Za-z0-9 ,.!?'\"()/:;+*=%$#@_-]*")
"""Texts of these characters only: ftfy leaves them unchanged and they contain no HTML entities, so neither ftfy nor
regex has to be imported, which would take longer than the tokenising itself."""

_PLAIN_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", re.IGNORECASE)
_ALL_WORDS = (
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # syntax of `regex`
)
_FIRST_MERGE = 512
"""Lower ids are the 256 bytes, each alone and as the end of a word."""
_MERGES = 49152 - 256 - 2
_MERGES_BYTES = 1 << 20
"""Of the vocabulary file, whose first line is a comment. It has five times as many merges, which CLIP does not use."""
START, END = 49406, 49407


def clean(text: str, how: str) -> str:
    """Clean a text as open_clip does.

    how: "lower", "whitespace", or "canonicalize" (lower case without punctuation).
    """
    if not _PLAIN.fullmatch(text):
        import html

        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if how == "canonicalize":
        text = text.strip().replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()
        return " ".join(text.split())
    text = " ".join(text.split())
    return text.lower() if how == "lower" else text


class ClipTokenizer:
    """The byte-pair encoding of OpenAI's CLIP (Radford et al., 2021), with open_clip's vocabulary file.

    Calling it with n texts returns int64 (n, context_length): start, tokens, end, zeros. Long texts are truncated.
    """

    def __init__(self, context_length: int, cleaning: str = "lower") -> None:
        self.context_length, self._cleaning = context_length, cleaning
        self._ranks, self._bytes = _merges(), _characters()
        single = list(self._bytes.values())
        self._ids = {part: i for i, part in enumerate([*single, *(character + "</w>" for character in single)])}
        self._known: dict[str, list[int]] = {"<start_of_text>": [START], "<end_of_text>": [END]}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(texts), self.context_length), np.int64)
        for row, text in zip(out, texts, strict=True):
            ids = [START, *self._encode(text), END][: self.context_length]
            row[: len(ids)] = ids
            if len(ids) == self.context_length:
                row[-1] = END
        return out

    def _encode(self, text: str) -> list[int]:
        text = clean(text, self._cleaning)
        words = (_PLAIN_WORDS if _PLAIN.fullmatch(text) else _unicode_words()).findall(text)
        # "replace": file names that are not valid text contain lone surrogates.
        return [id_ for word in words for id_ in self._word(word.encode("utf-8", "replace"))]

    def _word(self, raw: bytes) -> list[int]:
        word = "".join(self._bytes[byte] for byte in raw)
        if word not in self._known:
            self._known[word] = [self._ids[part] for part in self._merge([*word[:-1], word[-1] + "</w>"])]
        return self._known[word]

    def _merge(self, parts: list[str]) -> list[str]:
        """Merge neighbouring parts, in the order in which training learned the merges, until none applies."""
        while len(parts) > 1:
            pairs = [f"{left} {right}" for left, right in zip(parts, parts[1:], strict=False)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, _MERGES))
            if best not in self._ranks:
                break
            joined: list[str] = []
            at = 0
            while at < len(parts):
                if at < len(pairs) and pairs[at] == best:
                    joined.append(parts[at] + parts[at + 1])
                    self._ids[joined[-1]] = _FIRST_MERGE + self._ranks[best]
                    at += 2
                else:
                    joined.append(parts[at])
                    at += 1
            parts = joined
        return parts


class HubTokenizer:
    """A tokenizer.json with truncation and padding set, run by the `tokenizers` library.

    zeroed: an id that is replaced by 0 after tokenising, or None.
    """

    def __init__(self, definition: str, cleaning: str, zeroed: int | None = None) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ModelNotAvailable("this model needs the tokenizers library: pip install tokenizers") from error
        self._tokenizer, self._cleaning, self._zeroed = Tokenizer.from_str(definition), cleaning, zeroed

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        encoded = self._tokenizer.encode_batch([clean(text, self._cleaning) for text in texts])
        ids = np.array([one.ids for one in encoded], np.int64)
        return ids if self._zeroed is None else np.where(ids == self._zeroed, 0, ids)


Tokenizer = Callable[[Sequence[str]], np.ndarray]
"""Maps n texts to int64 (n, context length)."""


def tokenizer_from(description: dict, folder: Path) -> Tokenizer:
    """Build the tokenizer of a description.

    It is {"kind": "clip", "context_length", "cleaning"}, or {"kind": "hub", "file", "cleaning", "zeroed"} with the
    file in `folder`.
    """
    if description["kind"] == "clip":
        return ClipTokenizer(description["context_length"], description["cleaning"])
    definition = (folder / description["file"]).read_text("utf-8")
    return HubTokenizer(definition, description["cleaning"], description["zeroed"])


@cache
def _merges() -> dict[str, int]:
    """Return the ranks of the merges, written "left right".

    No two merges make the same token, so that a token's id follows from the rank of its merge. A table of all tokens
    would take longer to build than a search takes to encode its text.
    """
    package = importlib.util.find_spec("open_clip")  # finds the folder without importing it
    if package is None or not package.origin:
        raise ModelNotAvailable("open_clip is not installed: pip install open_clip_torch")
    file = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    unpacked = zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(file.read_bytes(), _MERGES_BYTES)
    merges = unpacked.decode("utf-8", "ignore").split("\n", _MERGES + 1)[1 : _MERGES + 1]
    return dict(zip(merges, range(_MERGES), strict=True))


@cache
def _characters() -> dict[int, str]:
    """Return the printable character that stands for each byte, in the order of their token ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@cache
def _unicode_words() -> Any:
    import regex

    return regex.compile(_ALL_WORDS, regex.IGNORECASE)
