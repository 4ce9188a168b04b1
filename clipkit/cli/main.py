"""`clipkit`: the group of all commands, and how errors are reported."""

from __future__ import annotations

import gc
import os
import sys

import click

from clipkit.cli.printing import discard_output, notify, open_streams
from clipkit.cli.sections import SectionedGroup
from clipkit.errors import ClipkitError
from clipkit.version import __version__


@click.group(cls=SectionedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="clipkit")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def commands(debug: bool) -> None:
    """Find pictures by what they show.

    Try `clipkit demo`, or index your own pictures and search them:

    \b
        clipkit index ~/Pictures
        clipkit search "a dog on the beach"

    Exit codes: 0 if something matched, 1 if nothing did, 2 on an error.
    """


commands.add_section(
    "Library", "index.index", "library.info", "library.failures", "library.check", "library.remove", "library.export"
)
commands.add_section("Search", "search.search", "explain.explain", "serve.serve", "demo.demo")
commands.add_section(
    "Pictures",
    "generate.generate",
    "vary.vary",
    "blend.blend",
    "restyle.restyle",
    "edit.edit",
    "extend.extend",
    "upscale.upscale",
    "generated.generated",
    "verify.verify",
)
commands.add_section("Models", "models.models", "decoders.decoders", "bridge.bridge")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Errors are printed as one line on stderr; with --debug or $CLIPKIT_DEBUG they are raised.
    """
    open_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments or bool(os.environ.get("CLIPKIT_DEBUG"))
    try:
        # --debug is removed here, so that it may follow the command as well.
        code = commands.main([a for a in arguments if a != "--debug"], prog_name="clipkit", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt):
        notify("stopped; finished work is kept, run the same command again to resume")
        return 130
    except BrokenPipeError:  # the reader has gone, as with `| head`
        discard_output()
        return 0
    except Exception as error:
        if debug:
            raise
        return _report(error)


def _report(error: Exception) -> int:
    """Print an error as one line and return its exit code, 2.

    It is 2 for a bug of ours too: Python's own, 1, would say that nothing matched.
    """
    # The message is joined to one line, not escaped, because those of some dependencies have several.
    notify(" ".join(line.strip() for line in _message(error).split("\n") if line.strip()))
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it, or the disk is full
        discard_output()
    return 2


def _message(error: Exception) -> str:
    import sqlite3

    match error:
        case click.ClickException():
            return error.format_message()
        case sqlite3.Error():
            return f"cannot use the catalog ({error}): is the disk full? Run `clipkit check` to look for damage"
        case MemoryError():
            return "out of memory: try a smaller --batch-size or --size"
        case ClipkitError() | OSError():
            return str(error)
    return f"unexpected {type(error).__name__}: {error} (--debug shows the traceback; please report it)"


def run() -> None:
    """Run the command line and exit: the entry point of the console script."""
    # Imports create a hundred thousand objects that stay. At Python's default of 700 new objects between collections,
    # looking through them for garbage takes a tenth of a search's time, and once more at exit unless they are frozen.
    gc.set_threshold(50_000, 20, 20)
    try:
        code = main()
        gc.freeze()
        sys.exit(code)
    except Exception:  # with --debug
        import traceback

        traceback.print_exc()
        sys.exit(2)
