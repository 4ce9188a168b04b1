"""Searching over HTTP: the answers of the library, page by page, by words and pictures."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
from PIL import Image

from clipkit import Library, Query


@pytest.fixture(scope="module")
def library(library_folder: Path):
    with Library.open(library_folder) as library:
        yield library


def paths(answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [hit["path"] for hit in answer.json["hits"]]


def test_a_text_search_answers_as_the_library_does(server, library):
    answer = server.get("/api/search", {"q": "a dog on the beach", "limit": 10}).json
    local = library.search("a dog on the beach").to_json()
    assert {key: answer[key] for key in ("library", "model", "matched", "notes")} == {
        key: local[key] for key in ("library", "model", "matched", "notes")
    }
    shared = ("rank", "path", "id", "matched", "copies", "away")
    assert [[hit[k] for k in shared] for hit in answer["hits"]] == [[hit[k] for k in shared] for hit in local["hits"]]
    assert answer["hits"][0]["score"] == pytest.approx(local["hits"][0]["score"], abs=1e-6)
    assert {"width", "height", "thumbnail", "original", "taken", "generated"} <= answer["hits"][0].keys()


def test_pages_continue_without_gaps_or_repetition(server):
    whole = server.get("/api/search", {"q": "a cat", "limit": 120}).json
    found, offset = [], 0
    while offset is not None:
        page = server.get("/api/search", {"q": "a cat", "limit": 25, "offset": offset}).json
        assert (page["matched"], page["confidence"]) == (
            server.get("/api/search", {"q": "a cat", "limit": 25}).json["matched"],
            server.get("/api/search", {"q": "a cat", "limit": 25}).json["confidence"],
        )
        found += page["hits"]
        offset = page["next_offset"]
    assert [hit["id"] for hit in found] == [hit["id"] for hit in whole["hits"]]
    assert [hit["rank"] for hit in found] == list(range(1, len(found) + 1))
    beyond = server.get("/api/search", {"q": "a cat", "limit": 25, "offset": 9000}).json
    assert beyond["hits"] == [] and beyond["next_offset"] is None


def test_terms_with_weights_and_words_to_avoid(server, library):
    answer = server.get("/api/search", {"q": "a dog", "term": ["a beach~0.7", "at night~-0.4"], "limit": 10})
    local = library.search(Query("a dog", also=("a beach",), not_=("at night",), weights=(1, 0.7, 0.4)))
    assert paths(answer) == [str(hit.path) for hit in local]
    assert answer.json["query"]["weights"] == [1.0, 0.7, 0.4]
    assert paths(server.get("/api/search", {"q": "a dog", "not": "at night", "limit": 10})) == [
        str(hit.path) for hit in library.search(Query("a dog", not_=("at night",)))
    ]


def test_a_picture_by_upload_id_and_similar(server, library, scene_folder):
    file = sorted(scene_folder.rglob("*.jpg"))[3]
    expected = [str(hit.path) for hit in library.search(Query(like=(file,)))]
    answer = server.upload("/api/search", [("picture", "p.jpg", file.read_bytes())], {"limit": "10"})
    assert paths(answer) == expected
    [ref] = answer.json["query"]["like"]
    assert ref == f"upload:{answer.json['query']['uploads'][0]['upload_id']}"
    assert paths(server.get("/api/search", {"like": ref, "limit": 10})) == expected
    number = answer.json["hits"][0]["id"]
    assert paths(server.get("/api/search", {"like": number, "limit": 10})) == expected
    assert paths(server.get(f"/api/similar/{number}", {"limit": 9})) == expected[1:]
    beside = server.get("/api/search", {"q": "at night", "q_weight": 0.3, "like": number, "not": f"id:{number + 1}"})
    assert beside.status == 200


def test_a_region_of_an_upload(server, library, tmp_path, scene_folder):
    files = sorted(scene_folder.rglob("*.jpg"))[:2]
    left, right = (Image.open(file) for file in files)
    both = Image.new("RGB", (2 * left.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    out = io.BytesIO()
    both.save(out, "PNG")
    for number, file in enumerate(files):
        region = f"{number * left.width},0,{left.width},{left.height}"
        answer = server.upload(
            "/api/search", [("picture", "two.png", out.getvalue())], {"region": region, "limit": "3"}
        )
        assert paths(answer)[0] == str(file)
    outside = server.upload("/api/search", [("picture", "two.png", out.getvalue())], {"region": "9000,0,10,10"})
    assert outside.status == 422


def test_filters(server, scene_folder):
    folder = scene_folder
    assert len(paths(server.get("/api/search", {"q": "a dog", "under": str(folder), "limit": 200}))) == 120
    assert paths(server.get("/api/search", {"q": "a dog", "after": "2100-01-01"})) == []
    assert server.get("/api/search", {"q": "a dog", "under": "/no/such/folder"}).status == 400
    assert len(paths(server.get("/api/search", {"q": "a dog", "where": "width > 0", "limit": 200}))) == 120


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"q": "..."},
        {"q": "a dog", "limit": "many"},
        {"q": "a dog", "limit": 0},
        {"q": "a dog", "offset": -1},
        {"q": "a dog", "min_confidence": "nan"},
        {"q": "a dog", "term": "cat~0"},
        {"q": "a dog", "like": "a/path.jpg"},
        {"q": "a dog", "after": "yesterday"},
        {"q": "a dog", "where": "1; DROP TABLE images"},
        {"q": "a\0dog"},
        {"q": ["a dog", "a cat"]},
        {"q": "a dog", "model": "ViT-B-32/none"},
    ],
)
def test_a_wrong_query_is_a_problem_of_the_client(server, parameters):
    answer = server.get("/api/search", parameters)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json) == {"type", "title", "status", "detail"}
    assert answer.json["type"].startswith("urn:clipkit:problem:") and "\n" not in answer.json["detail"]


def test_a_text_to_avoid_is_never_taken_for_a_file_of_the_server(server, scene_folder):
    file = str(next(scene_folder.rglob("*.jpg")))
    with_file = server.get("/api/search", {"q": "a dog", "not": file}).json
    without = server.get("/api/search", {"q": "a dog", "not": file.replace(".jpg", ".jpq")}).json
    assert with_file["query"]["unknown_words"] and without["query"]["unknown_words"]


def test_unknown_ids_are_not_found(server):
    for path in ("/api/images/999999", "/api/images/0/thumbnail", "/api/generated/77/original", "/api/nothing"):
        answer = server.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")
    assert server.get("/api/search", {"like": 10**15}).status == 404
    assert server.get("/api/search", {"like": "upload:" + 32 * "0"}).status == 404


def test_many_threads_get_the_answers_of_one(server):
    texts = ["a dog", "a cat on the beach", "at night", "a bicycle"]
    alone = {text: paths(server.get("/api/search", {"q": text})) for text in texts}
    wrong: list[str] = []

    def ask(text: str) -> None:
        for _ in range(5):
            if paths(server.get("/api/search", {"q": text})) != alone[text]:
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_json_has_no_line_breaks_or_raw_unicode(server):
    body = server.get("/api/search", {"q": "a dog"}).body
    assert body.isascii() and json.loads(body)
