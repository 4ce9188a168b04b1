"""`clipkit`: the group of all commands, and how errors reach a person."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback

import click

from clipkit.cli import bridge, decoders, demo, generate, index, library, models, search, spaces, verify
from clipkit.cli.printing import discard_output, open_streams, say, shown
from clipkit.errors import ClipkitError
from clipkit.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="clipkit")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def commands(debug: bool) -> None:
    """Find pictures by what they show.

    `clipkit demo` shows it at work; `clipkit index FOLDER`, then `clipkit search "a dog on the beach"`.
    Exit codes: 0 something matched, 1 nothing did, 2 an error.
    """


for command in (
    demo.demo, index.index, search.search, generate.generate, generate.generated, library.info, library.failures,
    library.check, library.remove, library.export, models.models, decoders.decoders, spaces.spaces, bridge.bridge,
    verify.verify,
):  # fmt: skip
    commands.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code. Errors become one line on stderr; with --debug they are raised."""
    open_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments or bool(os.environ.get("CLIPKIT_DEBUG"))
    try:
        # Taken out here, so that it may stand behind the command as well.
        code = commands.main([a for a in arguments if a != "--debug"], prog_name="clipkit", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        if debug:
            raise
        return _complain(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        say("clipkit: stopped; what was committed is kept, the same command goes on from there", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; nothing is left to say, not even at exit.
        discard_output()
        return 0
    except sqlite3.Error as error:
        if debug:
            raise
        return _complain(f"the catalog cannot be used ({error}): is the disk full? `clipkit check` looks for damage")
    except MemoryError:
        if debug:
            raise
        return _complain("there is not enough memory for that: a smaller --batch-size or --size may do")
    except (ClipkitError, OSError) as error:
        if debug:
            raise
        return _complain(str(error))
    except Exception as error:  # a fault of ours; Python's own exit code, 1, would say that nothing matched
        if debug:
            raise
        return _complain(f"unexpected {type(error).__name__}: {error} (--debug shows where; please report it)")


def _complain(message: str) -> int:
    # Lines are joined here, rather than escaped, because some libraries' messages have several.
    say("clipkit: " + shown(" ".join(line.strip() for line in message.split("\n") if line.strip())), err=True)
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it, or the disk is full
        discard_output()
    return 2


def run() -> None:
    """The console script."""
    try:
        sys.exit(main())
    except Exception:  # with --debug
        traceback.print_exc()
        sys.exit(2)
