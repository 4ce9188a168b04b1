"""A decoder of the part of CBOR (RFC 8949) that C2PA manifests use, so that reading needs no C2PA library."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_MAX_DEPTH = 32
_MAX_ITEMS = 20_000


class BadCbor(ValueError):
    """Bytes that are not CBOR, or that exceed the limits on depth and number of items."""


def decode(data: bytes) -> Any:
    """Decode the first item of `data` to plain Python objects. Raises BadCbor.

    Tags are dropped; undefined, unassigned simple values and floats become None.
    """
    try:
        return _Decoder(data).item(0)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise BadCbor(str(error)) from error


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._items = data, 0, 0

    def item(self, depth: int) -> Any:
        self._items += 1
        if depth > _MAX_DEPTH or self._items > _MAX_ITEMS:
            raise BadCbor("too deeply nested, or too many items")
        kind, argument = self._head()
        if kind == 0:
            return argument
        if kind == 1:
            return -1 - argument if argument is not None else None
        if kind in (2, 3):
            if argument is None:
                return b"".join(self._chunks(kind, depth)) if kind == 2 else "".join(self._chunks(kind, depth))
            content = self._take(argument)
            return content if kind == 2 else content.decode()
        if kind == 4:
            return list(self._members(argument, 1, depth))
        if kind == 5:
            flat = list(self._members(argument, 2, depth))
            return dict(zip(map(_as_key, flat[::2]), flat[1::2], strict=True))
        if kind == 6:
            return self.item(depth + 1)
        return {20: False, 21: True}.get(argument) if argument is not None else None

    def _head(self) -> tuple[int, int | None]:
        first = self._take(1)[0]
        kind, short = first >> 5, first & 31
        if short < 24:
            return kind, short
        if short > 27:
            if short == 31:
                return kind, None
            raise BadCbor("reserved length")
        size = 1 << (short - 24)
        argument = int.from_bytes(self._take(size), "big")
        return kind, (None if kind == 7 and size > 1 else argument)  # floats are not needed

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise BadCbor("unexpected end")
        self._at += count
        return taken

    def _members(self, count: int | None, each: int, depth: int) -> Iterator[Any]:
        if count is None:
            while self._data[self._at] != 0xFF:
                yield self.item(depth + 1)
            self._at += 1
        else:
            for _ in range(min(count * each, _MAX_ITEMS + 1)):
                yield self.item(depth + 1)

    def _chunks(self, kind: int, depth: int) -> Iterator[Any]:
        wanted = bytes if kind == 2 else str
        for chunk in self._members(None, 1, depth):
            if not isinstance(chunk, wanted):
                raise BadCbor("chunk of the wrong type")
            yield chunk


def _as_key(key: Any) -> Any:
    return key if isinstance(key, str | int | bytes | None) else str(key)
