"""Operations on pictures as jobs: what they make, what they refuse, and pictures that are not there."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import BadQuery, Client, Library, UnreadableImage, verify
from clipkit.progress import Progress
from server.conftest import running, wait_until
from server.test_jobs import start, stream

QUICK = {"seed": 7, "steps": 2}


@pytest.fixture(scope="module")
def made(library_folder: Path, quick, tmp_path_factory):
    """A server over a copy of the library, which may change, and the folder that the copy is in."""
    place = tmp_path_factory.mktemp("operations")
    shutil.copytree(library_folder, place / "indexes" / "made")
    with running(place / "indexes" / "made", replace(quick, thumbnails=place / "cache")) as server:
        yield server, place


def ids(server, count: int = 2) -> list[int]:
    return [image["id"] for image in server.get("/api/images", {"limit": count, "order": "path"}).json["images"]]


def upload(server, image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    answer = server.upload("/api/uploads", [("picture", "a.png", out.getvalue())])
    return f"upload:{answer.json['uploads'][0]['upload_id']}"


def finished(server, path: str, **body) -> tuple[list[dict], dict]:
    """Run a job; return its pictures and its result."""
    events = list(stream(server, start(server, path, **body)["events"]))
    assert events[-1][0] == "done", events[-1]
    pictures = [data for name, data in events if name == "picture"]
    assert pictures == events[-1][1]["generated"]
    assert events[0][0] == "progress"
    return pictures, events[-1][1]


def pixels(picture: dict) -> np.ndarray:
    return np.asarray(Image.open(picture["path"]).convert("RGB"))


def alike(one: Path, other: Path) -> bool:
    """Whether two files show the same: another process may round a last bit otherwise, and a pixel differs by one."""
    first, second = (pixels({"path": path}).astype(int) for path in (one, other))
    return first.shape == second.shape and np.abs(first - second).max() <= 2


def test_the_client_makes_what_the_library_makes(made, clipkit):
    server, place = made
    one, _ = ids(server)
    with Client(server.url) as client, Library.open(place / "indexes" / "made") as library:
        seen: list[Progress] = []
        there = client.vary(one, 2, strength=0.6, progress=seen.append, **QUICK)
        here = library.vary(one, 2, strength=0.6, **QUICK)
        assert seen
        for a, b in zip(there, here, strict=True):
            assert alike(a.path, b.path)
            assert replace(a, path=b.path, created_at=b.created_at, id=b.id) == b
            assert client.generated()[[g.id for g in client.generated()].index(a.id)] == a
        record = server.get(f"/api/generated/{there[1].id}").json
        assert record["command"] == library.command_of(there[1])
        again = clipkit(*shlex.split(record["command"])[1:], "-o", place / "again.png")
        assert again.code == 0, again.err
        client.download(there[1], place / "downloaded.png")
        assert alike(place / "again.png", place / "downloaded.png")

        with pytest.raises(BadQuery, match="the same"):
            client.restyle(one, "a dog", "a dog")
        with pytest.raises(BadQuery, match="at most 1"):
            client.vary(one, strength=2)
        with pytest.raises(UnreadableImage):
            client.vary(b"no picture")


def test_blends_and_a_picture_that_was_made_as_the_next_start(made):
    server, place = made
    one, two = ids(server)
    blended, done = finished(server, "/api/blend", items=[one, {"text": "12"}, two], steps=3, denoising_steps=2, seed=1)
    assert len(blended) == 3 and blended[0]["query"]["text"] == "12"
    assert done["strip"]["width"] == 3 * blended[0]["width"] and server.get(done["strip"]["original"]).status == 200
    further, _ = finished(server, "/api/vary", picture=f"generated:{blended[0]['id']}", n=1, label=True, **QUICK)
    assert further[0]["parents"] == [blended[0]["path"]] and further[0]["parameters"]["label"] is True
    assert server.get(f"/api/generated/{further[0]['id']}").json == further[0]
    with Client(server.url) as client:
        file = Path(server.get(f"/api/images/{one}").json["path"])
        blend = client.blend([file, "a violin"], weights=[1, 3], denoising_steps=2)
        [restyled] = client.restyle(str(one), "a dog", "a cat", amount=0.4, **QUICK)
    [single] = blend.pictures
    assert restyled.parents == (str(file),) and restyled.parameters["amount"] == 0.4
    assert blend.strip is None and single.parameters["weights"] == "0.25,0.75" and single.parents == ("(image)",)


def test_edits_keep_the_other_pixels_and_are_marked(made, tmp_path):
    server, _ = made
    [one] = ids(server, 1)
    before = np.asarray(Image.open(server.get(f"/api/images/{one}").json["path"]).convert("RGB"))
    height, width = before.shape[:2]
    box = [width // 4, height // 4, width // 2, height // 2]
    mask = np.zeros((height, width), bool)
    mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
    [boxed], _ = finished(server, "/api/edit", picture=one, text="a cat", box=box, **QUICK)
    with Client(server.url) as client:
        [masked] = client.edit(one, "a cat", mask=mask, **QUICK)
        [wider] = client.extend(Image.fromarray(before), "a tree", right=16, **QUICK)
    assert np.array_equal(pixels(boxed), np.asarray(Image.open(masked.path)))
    assert np.array_equal(pixels(boxed)[~mask], before[~mask]) and not np.array_equal(pixels(boxed), before)
    assert boxed["edited"] and "--box" in boxed["command"]
    assert server.get(f"/api/generated/{masked.id}").json["command"] is None  # nobody else has that mask
    assert Image.open(wider.path).size == (width + 16, height)
    assert np.array_equal(np.asarray(Image.open(wider.path))[:, :width], before)
    assert wider.edited

    thumbnail = tmp_path / "t.webp"
    thumbnail.write_bytes(server.get(boxed["thumbnail"]).body)
    assert verify(thumbnail).edited and verify(thumbnail).provenance.operation == "edit"


def test_a_search_that_generates_is_the_same_on_both_sides(made, clipkit):
    server, place = made
    here = ("--indexes", place / "indexes", "--name", "made")
    for text, first, then in (
        ("a zebra riding a bicycle on the moon", here, ("--server", server.url)),
        ("an octopus playing the violin in space", ("--server", server.url), here),
    ):
        made_now = clipkit("search", text, *first)
        assert made_now.code == 0 and "just now" in made_now.err
        found = [clipkit("search", text, *where) for where in (first, then)]
        assert found[0] == found[1] and "generated, not found" in found[0].err
    [one, other] = [json.loads(clipkit("search", text, "--json", *where).out) for where in (first, then)]
    one.pop("timings_ms"), other.pop("timings_ms")
    assert one == other and len(one["generated"]) == 1


def test_a_part_of_a_picture_and_words_make_one(made):
    server, _ = made
    one, two = ids(server)
    whole, part = [
        finished(server, "/api/generate", text="at night", like=[one, two], regions=regions, **QUICK)[0][0]
        for regions in ([], [None, [0, 0, 60, 60]])
    ]
    assert not np.array_equal(pixels(whole), pixels(part))
    assert whole["command"] and part["command"] is None


def test_what_is_held_for_a_job_goes_when_it_ends(made):
    server, _ = made
    uploads = server.app.state.services.uploads
    folder = Path(uploads._folder.name)
    name = upload(server, Image.linear_gradient("L"))
    kept = set(folder.iterdir())
    job = start(server, "/api/vary", picture=name, n=64, steps=50)
    assert len(set(folder.iterdir()) - kept) == 1
    wait_until(lambda: (server.get(f"/api/jobs/{job['job']}").json["progress"] or {}).get("total"))
    assert server.request("DELETE", f"/api/jobs/{job['job']}", headers={"X-Clipkit": "1"}).status == 200
    assert [name for name, _ in stream(server, job["events"])][-1] == "cancelled"
    assert server.get(f"/api/jobs/{job['job']}").json["kind"] == "vary"
    assert set(folder.iterdir()) == kept
    # Refused after it was held.
    assert server.post("/api/extend", {"picture": name, "left": 4096, "right": 4096, "top": 4096}).status == 202
    assert server.post("/api/edit", {"picture": name, "text": "a cat", "box": [999, 0, 5, 5]}).status == 400
    for waiting in server.get("/api/jobs").json["jobs"]:
        server.request("DELETE", f"/api/jobs/{waiting['job']}", headers={"X-Clipkit": "1"})
    wait_until(lambda: set(folder.iterdir()) == kept)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("vary", {}, "name the picture"),
        ("vary", {"picture": "/etc/passwd"}, "must be the id"),
        ("vary", {"picture": 1, "strength": 0}, "strength"),
        ("vary", {"picture": 1, "strength": 10**400}, "strength"),
        ("vary", {"picture": 1, "n": 65}, "n must be"),
        ("vary", {"picture": 1, "decoder": "/etc"}, "no decoder"),
        ("vary", {"picture": 1, "decoder": "kandinsky-2-2"}, "not on this machine"),
        ("vary", {"picture": 1, "output": "/tmp/x.png"}, "unknown field"),
        ("vary", {"picture": 10**12}, "no picture"),
        ("vary", {"picture": "generated:99999"}, "no generated picture"),
        ("vary", {"picture": "upload:" + "0" * 32}, "expired"),
        ("vary", {"picture": "http://127.0.0.1/a.png"}, "private"),
        ("blend", {"items": [1]}, "at least two"),
        ("blend", {"items": [1, "a dog"]}, "must be the id"),
        ("blend", {"items": [1, {"text": "?"}]}, "no words"),
        ("blend", {"items": [1, 2], "weights": [1, -1]}, "weights"),
        ("blend", {"items": [1, 2], "weights": [1, 1, 1]}, "weights"),
        ("blend", {"items": [1, 2], "steps": 1}, "steps"),
        ("restyle", {"picture": 1, "to": "a cat"}, "no words"),
        ("restyle", {"picture": 1, "from": "a cat", "to": " a  cat"}, "the same"),
        ("restyle", {"picture": 1, "from": "a dog", "to": "a cat", "amount": 2}, "amount"),
        ("edit", {"picture": 1, "text": "a cat"}, "what to repaint"),
        ("edit", {"picture": 1, "text": "", "box": [0, 0, 9, 9]}, "in words"),
        ("edit", {"picture": 1, "text": "a cat", "box": [9000, 0, 9, 9]}, "not in the picture"),
        ("edit", {"picture": 1, "text": "a cat", "box": [0, 0, 9]}, "box must be"),
        ("edit", {"picture": 1, "text": "a cat", "box": [0, 0, 10**400, 1]}, "box must be"),
        ("extend", {"picture": 1}, "how many pixels"),
        ("extend", {"picture": 1, "left": 5000}, "left must be"),
        ("extend", {"picture": 1, "left": 4096, "right": 4096, "top": 4096, "bottom": 4096, "text": "!"}, "no words"),
        ("generate", {"text": "a dog", "regions": [[0, 0, 5, 5]]}, "at most one box"),
        ("generate", {"like": [1], "regions": [[9000, 0, 5, 5]]}, "not in the picture"),
        ("generate", {"like": [1], "regions": [["0", 0, 5, 5]]}, "region"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_and_starts_nothing(made, path, body, words):
    server, _ = made
    before = len(server.get("/api/jobs").json["jobs"])
    if body.get("picture") == 1:
        body = body | {"picture": ids(server, 1)[0]}
    answer = server.post(f"/api/{path}", body)
    assert answer.status in (400, 404, 409, 422), answer.body
    assert words in answer.json["detail"] and "\n" not in answer.json["detail"]
    assert len(server.get("/api/jobs").json["jobs"]) == before


def test_masks_that_do_not_fit_or_say_nothing_are_refused(made):
    server, _ = made
    [one] = ids(server, 1)
    for mask, words in ((Image.new("L", (64, 300), 255), "same shape"), (Image.new("L", (64, 64)), "black")):
        size = Image.open(server.get(f"/api/images/{one}").json["path"]).size
        mask = mask.resize(size) if words == "black" else mask
        answer = server.post("/api/edit", {"picture": one, "text": "a cat", "mask": upload(server, mask)})
        assert answer.status == 400 and words in answer.json["detail"]


def test_pictures_that_are_away_are_searched_by_their_embedding_and_refused_elsewhere(
    quick, tmp_path, library_folder, scene_folder
):
    shutil.copytree(scene_folder, tmp_path / "photos")
    with Library.create(tmp_path / "away", "tiny") as library:
        library.index([tmp_path / "photos"], workers=1)
    with running(tmp_path / "away", replace(quick, thumbnails=tmp_path / "cache")) as server:
        one, two = ids(server)
        asked = [("/api/search", {"like": one}), ("/api/search", {"q": "at night", "not": f"id:{one}"})]
        asked.append((f"/api/similar/{one}", {"limit": 5}))
        before = [server.get(*each).json for each in asked]
        (tmp_path / "photos").rename(tmp_path / "unplugged")
        for each, then in zip(asked, before, strict=True):
            now = server.get(*each).json
            assert [hit["id"] for hit in now["hits"][:5]] == [hit["id"] for hit in then["hits"][:5]]
            assert now["hits"][0]["away"] and now["matched"] == then["matched"]
            assert now["hits"][0]["score"] == pytest.approx(then["hits"][0]["score"], abs=2e-3)
        refused = [
            server.get("/api/search", {"like": one, "region": "0,0,20,20"}),
            server.post("/api/vary", {"picture": one}),
            server.post("/api/blend", {"items": [one, two]}),
            server.post("/api/generate", {"like": [one]}),
        ]
        for answer in refused:
            assert answer.status == 422 and answer.json["type"] == "urn:clipkit:problem:picture-away"
            assert "connect it" in answer.json["detail"]
        assert server.get(f"/api/images/{one}/original").status == 404


def test_metrics_count_the_jobs_by_kind(made):
    server, _ = made
    finished(server, "/api/vary", picture=ids(server, 1)[0], n=1, **QUICK)
    text = server.get("/metrics").body.decode()
    assert 'clipkit_jobs_total{kind="vary",result="done"}' in text
    assert 'clipkit_requests_total{endpoint="vary",method="POST",status="202"}' in text
    assert 'clipkit_pictures_made_total{kind="vary"}' in text


def test_enlarging_is_a_job_and_an_option(made):
    server, _ = made
    one = ids(server, 1)[0]
    longer = max(Image.open(server.get(f"/api/images/{one}").json["path"]).size)
    with Client(server.url) as client:
        resampled = client.upscale(one, to=longer + 40, upscaler="lanczos")
        varied = client.vary(one, 1, upscale=320, **QUICK)[0]
    assert max(Image.open(resampled.path).size) == longer + 40 and not resampled.edited
    assert Image.open(varied.path).size == (320, 320) and varied.parameters["upscaler"] == "tiny"
    for body in ({"to": 16}, {"upscaler": "/etc"}, {"to": 400, "upscaler": "swin2sr-x4"}, {"n": 2}):
        assert server.post("/api/upscale", {"picture": one, **body}).status in (400, 409), body
    assert server.post("/api/vary", {"picture": one, "upscaler": "tiny"}).status == 400
    assert server.post("/api/vary", {"picture": one, "upscale": 17}).status == 400


def test_what_is_refused_is_refused_before_a_job_starts(made):
    server, _ = made
    place = {"picture": ids(server, 1)[0]}
    answer = server.post("/api/generate", {"text": "a naked child", "safety": True})
    assert (answer.status, answer.json["type"]) == (422, "urn:clipkit:problem:generation-refused"), answer.body
    answer = server.post("/api/edit", {**place, "text": "a naked child", "box": [0, 0, 20, 20], "safety": True})
    assert answer.status == 422, answer.body


def test_an_explanation_is_that_of_the_library(server, library_folder, tmp_path):
    hit = server.get("/api/search", {"q": "a dog on the beach", "limit": 1}).json["hits"][0]
    with Client(server.url) as client, Library.open(library_folder) as library:
        there, here = client.explain("a dog on the beach", hit["id"]), library.explain("a dog on the beach", hit["id"])
        with pytest.raises(BadQuery, match="id of a hit"):
            client.explain("a dog", "beach.jpg")
    assert there.heat.shape == here.heat.shape and np.abs(there.heat - here.heat).max() < 0.01
    assert [concept for concept, _ in there.shared_concepts] == [concept for concept, _ in here.shared_concepts]
    assert (there.score, there.matched, len(there.parts)) == (pytest.approx(here.score, abs=1e-3), here.matched, 2)
    there.save(tmp_path / "heat.png")
    assert Image.open(tmp_path / "heat.png").width > 0
