"""`clipkit demo`: the whole of clipkit on sample scenes, without a network."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from clipkit.cli.index import summary
from clipkit.cli.printing import say, shown
from clipkit.cli.progress import progress_bar
from clipkit.library import Library
from clipkit.searching.query import Query


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--scenes", type=click.IntRange(20, 5000), default=400, show_default=True, help="How many pictures.")
def demo(folder: Path | None, scenes: int) -> int:
    """Write sample scenes to FOLDER (a temporary one by default), index and search them, make what is missing."""
    from clipkit.samples.photos import ABSENT_THINGS, write_samples

    folder = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="clipkit-demo-"))
    photos, indexes = folder / "photos", folder / "indexes"
    with progress_bar() as progress:
        write_samples(photos, scenes, progress=progress)
    say(f"1. Wrote {scenes} scenes to {shown(photos)}")
    with Library.open_or_create(indexes / "default", model="tiny") as library:
        with progress_bar() as progress:
            report = library.index([photos], progress=progress)
        say(f"2. {summary(report)}")
        say("3. Searched:")
        example = next(iter(library.search("a dog", k=1))).path
        away = ABSENT_THINGS[0]
        searches = (
            ("words", Query(text="a cat on the beach"), 'clipkit search "a cat on the beach"'),
            ("a picture", Query(like=(example,)), f"clipkit search --like {example.relative_to(folder)}"),
            (
                "words and something to avoid",
                Query(text="a car", not_=("at night",)),
                'clipkit search "a car" --not "at night"',
            ),
            ("something that is not there", Query(text=f"a {away} at night"), f'clipkit search "a {away} at night"'),
        )
        tiles = []
        for what, query, command in searches:
            with progress_bar() as progress:
                result = library.search(query, k=5, generate="auto", progress=progress)
            tiles.append((command.removeprefix("clipkit search "), result))
            say(f"\n   By {what}: {command}" if result.matched else f"\n   {what.capitalize()}: {command}")
            for hit in result.hits[:3]:
                mark = "match" if hit.matched else "  -  "
                say(f"   {mark}  cosine {hit.score:.3f}  {shown(hit.path.relative_to(folder))}")
            for note in result.notes:
                say(f"   {shown(note)}")
            for made in result.generated:
                say(f"   made    {shown(made.path.relative_to(folder))}")
        sheet = folder / "contact-sheet.jpg"
        library.comparison_sheet(tiles, sheet)
    here = f"--indexes {shown(indexes)}"
    say(f"\n4. Look at what was found and made: {shown(sheet)}")
    say("\nTry next:")
    for command in (
        f'clipkit search {here} "a penguin in the snow" --contact-sheet hits.jpg',
        f'clipkit search {here} "a camel in the desert" --after 2025-01-01 --json',
        f'clipkit generate {here} "a violin on the beach" -n 4',
        f"clipkit info {here}",
        "clipkit index FOLDER --model ViT-B-32-256/datacomp_s34b_b86k    # your photographs",
    ):
        say(f"  {command}")
    return 0 if result.generated else 2  # a note has said why no picture could be made
