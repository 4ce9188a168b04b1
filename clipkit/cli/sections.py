"""A group of commands that imports a command's module when it is called, and lists all under headings."""

from __future__ import annotations

from importlib import import_module

import click


class SectionedGroup(click.Group):
    """A click group that knows its commands by name, and imports the module of the one that is called.

    Its help lists them section by section, in the order in which they were added, and imports them all.
    """

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        self.sections: dict[str, list[str]] = {}
        self._modules: dict[str, str] = {}

    def add_section(self, title: str, *commands: str) -> None:
        """Add commands under a heading, each as "MODULE.NAME": a module of this package, and the command in it."""
        modules = {name: module for module, name in (command.split(".") for command in commands)}
        self.sections[title] = list(modules)
        self._modules |= modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*self._modules, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, imported if necessary; None if there is none of that name."""
        if cmd_name in self._modules and cmd_name not in self.commands:
            module = import_module(f"{__package__}.{self._modules[cmd_name]}")
            self.add_command(getattr(module, cmd_name))
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments call; if there is none, the error suggests similar names."""
        if args[0] not in self._modules:
            for name in self._modules:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list per section; names are padded so that all sections have the same columns."""
        longest = max(map(len, self._modules))
        limit = formatter.width - longest - 4  # two columns of indentation, two between name and help
        for title, names in self.sections.items():
            commands = [command for name in names if (command := self.get_command(ctx, name))]
            with formatter.section(title):
                formatter.write_dl([(f"{c.name:{longest}}", c.get_short_help_str(limit)) for c in commands])
