"""How text reaches a person: file names made harmless to a terminal, on streams that can take any character."""

from __future__ import annotations

import io
import os
import re
import sys

# What a terminal obeys instead of showing it (C0, DEL, C1), and what breaks or reorders a line (the separators and
# bidirectional overrides of Unicode).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# How Python holds bytes of a file name that are no text.
_SURROGATE = re.compile("[\ud800-\udfff]")


def shown(name: object) -> str:
    """Return a file name, or other text from outside, as one line that is safe to print.

    Characters that are not to be shown are escaped as in a Python string: ESC becomes the four characters `\\x1b`.
    """
    return _SURROGATE.sub(_escaped, _CONTROL.sub(_escaped, str(name)))


def as_line(path: os.PathLike[str]) -> bytes:
    """Return a path as one line for other programs: control characters are escaped, bytes that are no text stay."""
    return os.fsencode(_CONTROL.sub(_escaped, os.fspath(path))) + b"\n"


def say(text: str, *, err: bool = False) -> None:
    """Print text for people. Its tabs and line breaks are layout; everything else is printed as `shown` gives it."""
    lines = ("\t".join(map(shown, line.split("\t"))) for line in text.split("\n"))
    # Not by click, which writes UTF-8 where it takes a stream's encoding for a mistake.
    print("\n".join(lines), file=sys.stderr if err else sys.stdout, flush=True)


def open_streams() -> None:
    """Make stdin, stdout and stderr usable, whatever the caller has left of them.

    A stream that is closed becomes the null device; without that, the next file to be opened would take its descriptor.
    A character that the encoding of stdout or stderr lacks is escaped instead of ending the command.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Send what is still to be written to stdout nowhere, so that Python does not try it again at exit, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
