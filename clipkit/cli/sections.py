"""A group of commands whose help lists them under headings."""

from __future__ import annotations

import click


class SectionedGroup(click.Group):
    """A click group that lists its commands section by section, in the order in which they were added."""

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        self.sections: dict[str, list[click.Command]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands under a heading."""
        self.sections[title] = list(commands)
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list per section; names are padded so that all sections have the same columns."""
        longest = max(map(len, self.commands))
        limit = formatter.width - longest - 4  # two columns of indentation, two between name and help
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{c.name:{longest}}", c.get_short_help_str(limit)) for c in commands])
