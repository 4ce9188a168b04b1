"""Operations on pictures as jobs: what they make, what they refuse, and pictures that are not there."""

from __future__ import annotations

import io
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import Library, verify
from server.conftest import running, wait_until
from server.test_jobs import start, stream

QUICK = {"seed": 7, "steps": 2}


@pytest.fixture(scope="module")
def made(library_folder: Path, scene_folder: Path, quick, tmp_path_factory):
    """A server over a library that may change, and the folder of its pictures."""
    place = tmp_path_factory.mktemp("operations")
    shutil.copytree(scene_folder, place / "photos")
    with Library.create(place / "indexes" / "made", "tiny") as library:
        library.index([place / "photos"], workers=1)
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


def test_operations_make_what_the_library_makes_and_say_how(made, clipkit):
    server, place = made
    one, two = ids(server)
    path = server.get(f"/api/images/{one}").json["path"]
    varied, _ = finished(server, "/api/vary", picture=one, n=2, strength=0.6, **QUICK)
    restyled, _ = finished(server, "/api/restyle", picture=str(one), to="a cat", **QUICK, **{"from": "a dog"})
    with Library.open(place / "indexes" / "made") as library:
        here = [
            *library.vary(one, 2, strength=0.6, output=place / "v.png", **QUICK),
            *library.restyle(one, "a dog", "a cat", output=place / "r.png", **QUICK),
        ]
    for there, same in zip([*varied, *restyled], here, strict=True):
        assert there["seed"] == same.seed and there["parents"] == [path] == list(same.parents)
        assert there["operation"] == same.operation and there["edited"] is False
        assert Path(there["path"]).read_bytes() == same.path.read_bytes()
        assert (
            there["parameters"] == same.parameters and there["width"] and server.get(there["thumbnail"]).status == 200
        )

    # The command that an answer names makes the same bytes again.
    again = clipkit(*shlex.split(varied[1]["command"])[1:], "-o", place / "again.png")
    assert again.code == 0, again.err
    assert (place / "again.png").read_bytes() == Path(varied[1]["path"]).read_bytes()

    # A picture that was made is the start of the next one.
    further, _ = finished(server, "/api/vary", picture=f"generated:{varied[0]['id']}", n=1, label=True, **QUICK)
    assert further[0]["parents"] == [varied[0]["path"]] and further[0]["parameters"]["label"] is True
    listed = {one["id"]: one for one in server.get("/api/generated").json["generated"]}
    assert listed[further[0]["id"]] == further[0] == server.get(f"/api/generated/{further[0]['id']}").json

    blended, done = finished(server, "/api/blend", items=[one, {"text": "12"}, two], steps=3, denoising_steps=2, seed=1)
    assert len(blended) == 3 and blended[0]["query"]["text"] == "12"
    assert done["strip"]["width"] == 3 * blended[0]["width"] and server.get(done["strip"]["original"]).status == 200
    [single], done = finished(server, "/api/blend", items=[one, two], weights=[1, 3], denoising_steps=2)
    assert done["strip"] is None and single["parameters"]["weights"] == "0.25,0.75"


def test_edits_keep_the_other_pixels_and_are_marked(made, tmp_path):
    server, _ = made
    [one] = ids(server, 1)
    before = np.asarray(Image.open(server.get(f"/api/images/{one}").json["path"]).convert("RGB"))
    height, width = before.shape[:2]
    box = [width // 4, height // 4, width // 2, height // 2]
    mask = Image.new("L", (width, height))
    mask.paste(255, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    [boxed], _ = finished(server, "/api/edit", picture=one, text="a cat", box=box, **QUICK)
    [masked], _ = finished(server, "/api/edit", picture=one, text="a cat", mask=upload(server, mask), **QUICK)
    assert np.array_equal(pixels(boxed), pixels(masked))
    outside = np.asarray(mask) == 0
    assert np.array_equal(pixels(boxed)[outside], before[outside])
    assert not np.array_equal(pixels(boxed), before)
    assert boxed["edited"] and "--box" in boxed["command"]
    assert masked["command"] is None  # nobody else has that mask

    own = upload(server, Image.fromarray(before))
    [wider], _ = finished(server, "/api/extend", picture=own, right=16, text="a tree", **QUICK)
    assert (wider["width"], wider["height"]) == (width + 16, height)
    assert np.array_equal(pixels(wider)[:, :width], before)
    assert wider["edited"] and wider["command"] is None

    thumbnail = tmp_path / "t.webp"
    thumbnail.write_bytes(server.get(boxed["thumbnail"]).body)
    assert verify(thumbnail).edited and verify(thumbnail).provenance.operation == "edit"


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
