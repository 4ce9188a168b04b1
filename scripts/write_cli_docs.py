"""Print docs/cli.md, the reference of all commands, generated from the commands themselves.

    python scripts/write_cli_docs.py > docs/cli.md

The layout is this script's own rather than click's `--help`, so that it depends neither on the terminal nor on the
version of click.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from clipkit.cli.main import commands

WIDTH, COLUMN = 100, 30
"""Characters of a line, and of the column that holds the options."""

HEAD = """\
# Commands

Every command and option. `clipkit COMMAND --help` prints the same on a terminal. Written by `scripts/write_cli_docs.py`:
change the commands, not this page.

Exit codes: 0 something matched, or the command did what it says; 1 nothing matched; 2 an error, in one line on stderr.
"""


def main() -> None:
    print(page(), end="")


def page() -> str:
    """Return the whole page as Markdown."""
    return "\n".join([HEAD, *(line for name, command in walk("clipkit", commands) for line in section(name, command))])


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all commands below it, with the words that call each."""
    yield name, command
    for child, below in children(command):
        yield from walk(f"{name} {child}", below)


def children(command: click.Command) -> list[tuple[str, click.Command]]:
    """Return the commands of a group by name, sorted; none for a command that is not a group."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    found = [(name, command.get_command(context, name)) for name in sorted(command.list_commands(context))]
    return [(name, child) for name, child in found if child and not child.hidden]


def section(name: str, command: click.Command) -> Iterator[str]:
    """Yield the lines of one command: its usage, what it does, its options."""
    visible = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in visible if isinstance(p, click.Argument)]
    options = [p for p in visible if isinstance(p, click.Option)]
    words = [name, *(["[OPTIONS]"] if options else []), *map(usage, arguments)]
    if isinstance(command, click.Group):
        words.append("[COMMAND]" if command.invoke_without_command else "COMMAND")
    yield from (f"## {name}", "", "```text", *textwrap.wrap(" ".join(words), WIDTH), "```", "")
    for paragraph in (command.help or "").replace("\b", "").split("\n\n"):
        yield from (*textwrap.wrap(" ".join(paragraph.split()), WIDTH), "")
    if options:
        yield from ("```text", *(line for option in options for line in described(option)), "```", "")
    if below := children(command):
        yield from (f"- [`{name} {child}`](#{name.replace(' ', '-')}-{child})" for child, _ in below)
        yield ""


def usage(argument: click.Argument) -> str:
    """Return an argument as it stands in the usage line."""
    word = argument.metavar or (argument.name or "").upper()
    if argument.nargs != 1 and not word.endswith("..."):
        word += "..."
    return word if argument.required or word.startswith("[") else f"[{word}]"


def described(option: click.Option) -> list[str]:
    """Return an option with its description, in two columns."""
    names = ", ".join(option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    if not (option.is_flag or option.count):
        names += f" {value(option)}"
    text = option.help or ""
    if option.show_default and option.default is not None and not option.is_flag:
        text = f"{text} [default: {option.default}]".strip()
    lines = textwrap.wrap(text, WIDTH - COLUMN)
    if len(names) > COLUMN - 2:
        return [names, *(" " * COLUMN + line for line in lines)]
    return [f"{names:{COLUMN}}{lines[0] if lines else ''}".rstrip(), *(" " * COLUMN + line for line in lines[1:])]


def value(option: click.Option) -> str:
    """Return the placeholder of an option's value."""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    if isinstance(option.type, click.Path):
        return "FILE" if not option.type.dir_okay else "FOLDER" if not option.type.file_okay else "PATH"
    numbers = {"integer": "INTEGER", "integer range": "INTEGER", "float": "NUMBER", "float range": "NUMBER"}
    return numbers.get(option.type.name, "TEXT")


if __name__ == "__main__":
    main()
