"""The command that is shown for a generated picture says all that it was made of."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipkit import Query
from clipkit.catalog.generated import Generated
from clipkit.catalog.layout import Layout
from clipkit.cli.generate import generate
from clipkit.generation.command_line import command_line, query_parameters

words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(
    lambda text: any(map(str.isalnum, text)) and text.strip() == text
)
weights = st.floats(1e-6, 1e6)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    text = draw(st.one_of(st.just(""), words))
    also, not_ = (tuple(draw(st.lists(words, max_size=2))) for _ in range(2))
    like = tuple(
        draw(st.lists(st.sampled_from(["/photos/a b.jpg", "https://a.b/c?d=1&e"]), min_size=not text, max_size=2))
    )
    terms = bool(text) + len(also) + len(like) + len(not_)
    return Query(text, like, not_, tuple(draw(st.lists(weights, max_size=terms))), also)


@given(queries(), st.booleans())
@pytest.mark.skipif("os.name == 'nt'", reason="reads the words as a POSIX shell does")
def test_it_is_read_as_the_same_query(query: Query, recorded: bool):
    picture = Generated(
        path=Path("a.png"),
        query=query.to_json(),
        model="tiny",
        prior="tiny",
        decoder="tiny",
        seed=3,
        steps=2,
        guidance=1.5,
        created_at="2026-01-01",
        parameters=query_parameters(query) if recorded else {},  # older versions recorded none
    )
    line = command_line(picture, Layout(Path("/libraries/of pictures")))
    assert line is not None
    name, command, *arguments = shlex.split(line)
    assert (name, command) == ("clipkit", "generate")
    read = generate.make_context("generate", arguments).params
    assert (read["text"], read["also"], read["like"], read["not_"]) == (query.text, query.also, query.like, query.not_)
    again = Query(query.text, query.like, query.not_, read["weights"], query.also)
    assert again.terms() == query.terms()
    assert (read["seed"], read["steps"], read["guidance"], read["decoder"]) == (3, 2, 1.5, "tiny")
