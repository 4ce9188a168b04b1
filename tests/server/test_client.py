"""`clipkit.Client` and `clipkit search --server`: the answers of the library itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from clipkit import BadQuery, Client, Filters, Library, Query, ServerError, UnreadableImage
from server.conftest import running


@pytest.fixture(scope="module")
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def library(library_folder: Path):
    with Library.open(library_folder) as library:
        yield library


def same(one, other) -> bool:
    """Whether two results are equal but for the time they took and the last digits of numbers."""
    [a, b] = [json.loads(json.dumps(r.to_json())) for r in (one, other)]
    a.pop("timings_ms"), b.pop("timings_ms")
    return a == b and [replace(h, score=0, confidence=0, copy=None) for h in one] == [
        replace(h, score=0, confidence=0, copy=None) for h in other
    ]


def test_searching_is_the_same_on_both_sides(client, library, scene_folder):
    file = sorted(scene_folder.rglob("*.jpg"))[5]
    for query, options in [
        ("a dog on the beach", {}),
        ("a cat", {"k": 3, "offset": 4}),
        (Query("a dog", not_=("at night",), weights=(1, 0.3)), {"k": 30}),
        (Query("a dog", also=("a beach",), weights=(1, 2)), {"k": 5}),
        (Query(like=(file,)), {}),
        (Query("at night", like=(file.read_bytes(), Image.open(file)), not_=(file,), weights=(2, 1, 1, 0.1)), {}),
        ("a dog", {"filters": Filters(under=(scene_folder,), where="id % 2 = 0")}),
        ("a zeppelin", {"min_confidence": 0.9}),
    ]:
        assert same(client.search(query, **options), library.search(query, **options)), query


def test_facts_and_files(client, library):
    assert client.info() == library.info()
    assert (client.name, client.model) == (library.name, library.model)
    hit = client.search("a dog").hits[0]
    assert client.original(hit.id) == hit.path.read_bytes()
    assert client.thumbnail(hit.id, 160)[8:12] == b"WEBP"
    assert [other.id for other in client.similar(hit.id, 3)] == [h.id for h in library.search(Query(like=(hit.path,)))][
        1:4
    ]
    assert client.generated() == library.generated()


def test_errors_are_those_of_the_library(client, tmp_path):
    with pytest.raises(BadQuery, match="no words"):
        client.search("...")
    with pytest.raises(BadQuery):
        client.search("a dog", k=0)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff" + bytes(100))
    with pytest.raises(UnreadableImage) as error:
        client.search(Query(like=(broken,)))
    assert error.value.path == broken
    with pytest.raises(ServerError) as refused:
        client.thumbnail(10**9)
    assert refused.value.status == 404


def test_servers_that_are_not_there_or_want_a_token(library_folder, quick, monkeypatch):
    monkeypatch.delenv("CLIPKIT_TOKEN", raising=False)
    with pytest.raises(ServerError, match="cannot be reached"):
        Client("http://127.0.0.1:9").info()
    for wrong in ("", "ftp://a", "http://", "http://a:b"):
        with pytest.raises(ServerError, match="not the address"):
            Client(wrong)
    with running(library_folder, replace(quick, token="secret")) as server:
        with pytest.raises(ServerError) as refused:
            Client(server.url).info()
        assert refused.value.status == 401
        for client in (Client(server.url, "secret"), Client(f"{server.url}/?token=secret")):
            with client:
                assert client.info().images == 120
        monkeypatch.setenv("CLIPKIT_TOKEN", "secret")
        with Client(server.url) as client:
            assert client.info().images == 120


@pytest.mark.parametrize(
    "arguments",
    [
        ("a dog on the beach",),
        ("a dog", "--not", "at night", "--weight", "1", "--weight", "0.2", "-k", "25"),
        ("a dog", "--also", "on the beach", "--not", "at night", "--weight", "1", "--weight", "0.3"),
        ("a cat", "--csv"),
        ("a cat", "--paths"),
        ("a cat", "-0"),
        ("a unicorn reading a newspaper", "--generate", "never"),
        ("a dog", "--under", "/no/such/folder"),
    ],
)
def test_the_command_prints_what_it_prints_for_a_library_here(clipkit, server, library_folder, arguments):
    here = clipkit("search", *arguments, "--indexes", library_folder.parent)
    there = clipkit("search", *arguments, "--server", server.url)
    assert there == here


def test_the_command_with_a_picture_as_json(clipkit, server, library_folder, scene_folder):
    file = sorted(scene_folder.rglob("*.jpg"))[8]
    arguments = ("search", "--like", file, "--json", "--generate", "never")
    here, there = (
        json.loads(output.out)
        for output in (
            clipkit(*arguments, "--indexes", library_folder.parent),
            clipkit(*arguments, "--server", server.url),
        )
    )
    here.pop("timings_ms"), there.pop("timings_ms")
    assert there == here


def test_a_server_that_is_not_there_is_one_line(clipkit):
    output = clipkit("search", "a dog", "--server", "http://127.0.0.1:9")
    assert output.code == 2 and output.err.count("\n") == 1 and "clipkit serve" in output.err
