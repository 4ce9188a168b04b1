"""`clipkit demo`: try clipkit on sample pictures, offline."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipkit.cli.index import summary
from clipkit.cli.printing import printable, say
from clipkit.cli.progress import progress_bar

if TYPE_CHECKING:
    from clipkit.library import Library
    from clipkit.searching.query import Query
    from clipkit.searching.result import SearchResult


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--scenes",
    type=click.IntRange(20, 5000),
    default=400,
    show_default=True,
    help="Number of sample pictures to write.",
)
def demo(folder: Path | None, scenes: int) -> int:
    """Try clipkit on sample pictures, offline.

    Writes drawn scenes to FOLDER, by default a new temporary folder, indexes them with the bundled model, searches
    them, and generates a picture that they lack. Needs no network and no GPU.
    """
    from clipkit.library import Library
    from clipkit.samples.photos import ABSENT_THINGS, write_samples

    folder = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="clipkit-demo-"))
    photos, indexes, sheet = folder / "photos", folder / "indexes", folder / "contact-sheet.jpg"
    with progress_bar() as progress:
        write_samples(photos, scenes, progress=progress)
    say(f"1. Wrote {scenes} scenes to {printable(photos)}")
    with Library.open_or_create(indexes / "default", model="tiny") as library:
        with progress_bar() as progress:
            report = library.index([photos], progress=progress)
        say(f"2. {summary(report)}")
        say("3. Searched:")
        example = next(iter(library.search("a dog", k=1))).path
        results = _search(library, folder, _searches(folder, example, ABSENT_THINGS[0]))
        library.comparison_sheet(results, sheet)
    say(f"\n4. Open the contact sheet of all four searches: {printable(sheet)}")
    _print_next_steps(indexes)
    return 0 if results[-1][1].generated else 2  # a note has said why no picture could be generated


def _searches(folder: Path, example: Path, missing: str) -> list[tuple[str, Query, str]]:
    """Return what each search shows, its query, and the command that asks it."""
    from clipkit.searching.query import Query

    return [
        ("By words", Query(text="a cat on the beach"), 'clipkit search "a cat on the beach"'),
        ("By a picture", Query(like=(example,)), f"clipkit search --like {example.relative_to(folder)}"),
        (
            "By words and something to avoid",
            Query(text="a car", not_=("at night",)),
            'clipkit search "a car" --not "at night"',
        ),
        (
            "Something that is not there",
            Query(text=f"a {missing} at night"),
            f'clipkit search "a {missing} at night"',
        ),
    ]


def _search(
    library: Library, folder: Path, searches: Sequence[tuple[str, Query, str]]
) -> list[tuple[str, SearchResult]]:
    """Run and print searches; return the label of each on the contact sheet, and its result."""
    results = []
    for title, query, command in searches:
        with progress_bar() as progress:
            result = library.search(query, k=5, generate="auto", progress=progress)
        results.append((command.removeprefix("clipkit search "), result))
        say(f"\n   {title}: {command}")
        for hit in result.hits[:3]:
            mark = "match" if hit.matched else "  -  "
            say(f"   {mark}  cosine {hit.score:.3f}  {printable(hit.path.relative_to(folder))}")
        for note in result.notes:
            say(f"   {printable(note)}")
        for picture in result.generated:
            say(f"   generated  {printable(picture.path.relative_to(folder))}")
    return results


def _print_next_steps(indexes: Path) -> None:
    here = f"--indexes {printable(indexes)}"
    say("\nTry next:")
    for command in (
        f'clipkit search {here} "a penguin in the snow" --contact-sheet hits.jpg',
        f'clipkit search {here} "a camel in the desert" --after 2025-01-01 --json',
        f'clipkit generate {here} "a violin on the beach" -n 4',
        f"clipkit info {here}",
        "clipkit index FOLDER --model ViT-B-32-256/datacomp_s34b_b86k    # your photographs",
        f"clipkit serve {here}    # the same in the browser",
    ):
        say(f"  {command}")
