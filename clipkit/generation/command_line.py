"""The command line that makes a generated picture again."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipkit.catalog.generated import Generated
from clipkit.catalog.layout import Layout, library_folder
from clipkit.generation.registry import DecoderEntry
from clipkit.searching.query import AVOID_WEIGHT, NAMELESS, Query, is_picture, is_url

_NO_OPTIONS = ("arguments", "warnings")
"""Keys of `Generated.parameters` that are not the names of options."""


def command_line(picture: Generated, layout: Layout) -> str | None:
    """Return the command that makes a picture again, quoted for the system's shell.

    The seed, steps, guidance scale, decoder and further texts come from the picture's own columns unless `parameters`
    has them. None if it was made of pictures without names, or of texts that a command takes for pictures.
    """
    parameters = picture.parameters or _recorded_parameters(picture)
    own = {"seed": picture.seed, "steps": picture.steps, "guidance": picture.guidance, "decoder": picture.decoder}
    own["also"] = picture.query.get("also", ())
    options = own | {name: value for name, value in parameters.items() if name not in _NO_OPTIONS} | _library(layout)
    arguments = [str(argument) for argument in parameters.get("arguments", ())]
    words = ["clipkit", picture.operation, *_option_words(options)]
    words += ["--", *arguments] if any(argument.startswith("-") for argument in arguments) else arguments
    if NAMELESS in words:
        return None
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def query_parameters(query: Query) -> dict[str, Any]:
    """Return the `parameters` that describe a query; weights only if they are not the default ones."""

    parameters: dict[str, Any] = {"arguments": [query.text] if query.text else []}
    # A string of `like` is a path even if there is no such file any more.
    like = [named_absolutely(picture) for picture in query.like]
    parameters |= {"like": like} if like else {}
    parameters |= {"not": [_avoided(value) for value in query.not_]} if query.not_ else {}
    return parameters | ({"weight": list(query.weights)} if query.weights else {})


def named_text(text: str, is_picture: Callable[[str], bool]) -> str:
    """Return a text as an argument of a command, which tells by `is_picture` whether a picture is meant.

    A text that came as `Words` may look like a picture's name, and cannot be an argument: `NAMELESS` stands for it.
    """
    return NAMELESS if is_picture(str(text)) else text


def decoder_parameters(entry: DecoderEntry, size: int) -> dict[str, Any]:
    """Return the `parameters` for the size of a picture, and for a decoder that only its folder names."""
    named = {} if entry.name == entry.id else {"decoder": entry.name}
    return named | ({} if size == entry.size else {"size": size})


def named_absolutely(picture: Any) -> str:
    """Return the name of a picture so that it holds in any folder: an absolute path, or its URL."""
    if is_url(picture):
        return str(picture)
    return os.path.abspath(Path(picture).expanduser()) if isinstance(picture, str | Path) else NAMELESS


def _avoided(value: Any) -> str:
    return named_absolutely(value) if is_picture(value) else named_text(value, is_picture)


def _recorded_parameters(picture: Generated) -> dict[str, Any]:
    """Return the parameters of a picture that an older version generated, from its query."""
    query = picture.query
    wanted = [query["text"]] if query["text"] else []
    wanted += [*query.get("also", ()), *query["like"]]
    defaults = [1.0] * len(wanted) + [AVOID_WEIGHT] * len(query["not"])
    terms = {"arguments": [query["text"]] if query["text"] else [], "like": query["like"], "not": query["not"]}
    return terms | ({} if query["weights"] == defaults else {"weight": query["weights"]})


def _library(layout: Layout) -> dict[str, str]:
    """Return the options that find a library: none for the default one."""
    if layout.folder == library_folder("default"):
        return {}
    if layout.folder == library_folder(layout.name):
        return {"name": layout.name}
    return {"indexes": str(layout.folder.parent), "name": layout.name}


def _option_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words: a list repeats its option, True is a flag; None and False are left out."""
    words: list[str] = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is True:
                words.append(option)
            elif item is not None and item is not False:
                words += [option, str(item)]
    return words
