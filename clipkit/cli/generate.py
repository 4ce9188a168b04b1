"""`clipkit generate`: generate pictures of a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipkit.cli.operation_options import (
    count_option,
    library_if_needed,
    print_pictures,
    sampling_options,
    steps_option,
)
from clipkit.cli.options import query_options
from clipkit.cli.printing import printable, say

if TYPE_CHECKING:
    from clipkit.searching.query import Query


@click.command()
@query_options
@count_option(1)
@steps_option
@click.option("--explain", is_flag=True, help="Print the route of every term on stderr; --json always has it.")
@sampling_options
def generate(
    query: Query,
    count: int,
    explain: bool,
    as_json: bool,
    library_path: Path,
    **options: Any,
) -> int:
    """Generate pictures from words, pictures, or both.

    Every picture is marked as AI-generated; `clipkit verify` reads the marks. Pictures are recorded in the library,
    see `clipkit generated`. Without a library, give --decoder and --output.
    """
    with library_if_needed(library_path, options) as library:
        if library is None:
            from clipkit.generation.generate import generate as generate_alone

            pictures = generate_alone(query, count, **options)
        else:
            pictures = library.generate(query, count, **options)
    for leg in pictures[0].route if explain else ():
        say(f"route: {printable(leg['term'])}: {leg['route']}, through {leg['through']}", err=True)
    print_pictures(pictures, as_json=as_json)
    return 0
