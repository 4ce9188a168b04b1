"""Print text and JSON: names made harmless to a terminal, on streams that may lack any character."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

# What a terminal obeys instead of showing it (C0, DEL, C1), and what breaks or reorders a line (the separators and
# bidirectional overrides of Unicode).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# How Python represents the bytes of a file name that are not valid text.
_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: object) -> str:
    """Return a file name, or other text from outside, as one line that is safe to print.

    Control characters and undecodable bytes are escaped as in a Python string: ESC becomes the four characters `\\x1b`.
    """
    return _SURROGATE.sub(_escaped, _CONTROL.sub(_escaped, str(text)))


def path_line(path: os.PathLike[str]) -> bytes:
    """Return a path as one line for other programs: control characters are escaped, undecodable bytes kept."""
    return os.fsencode(_CONTROL.sub(_escaped, os.fspath(path))) + b"\n"


def say(text: str, *, err: bool = False) -> None:
    """Print text for people, through `printable`; only its tabs and line breaks are kept as layout."""
    lines = ("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
    # Not click.echo, which writes UTF-8 where it mistrusts the encoding of the stream.
    print("\n".join(lines), file=sys.stderr if err else sys.stdout, flush=True)


def say_json(value: Any) -> None:
    """Print plain data as one line of JSON, in ASCII."""
    say(json.dumps(value))


def notify(message: object) -> None:
    """Print a message on stderr, as one line that starts with "clipkit: "."""
    say(f"clipkit: {printable(message)}", err=True)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print plain data about one thing for people, one line a key; empty values are left out."""
    for name, value in facts.items():
        if text := _in_words(value):
            say(f"{name.replace('_', ' '):24} {printable(text)}")


def open_streams() -> None:
    """Make stdin, stdout and stderr usable, whatever state the caller left them in.

    A closed stream is replaced by the null device, otherwise the next file to be opened would get its descriptor.
    Characters that the encoding of stdout or stderr lacks are escaped instead of raising an error.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  stays open until exit
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Redirect stdout to the null device, so that Python does not try to flush it again at exit, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text}" for key, item in value.items() if (text := _in_words(item)))
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    return str(value)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
