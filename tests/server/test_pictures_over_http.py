"""Thumbnails, files and facts of pictures over HTTP."""

from __future__ import annotations

import io
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from clipkit import Library, verify
from clipkit.server.thumbnails import Thumbnails
from server.conftest import running


def first(server, **parameters) -> dict:
    return server.get("/api/images", {"limit": 1, **parameters}).json["images"][0]


def test_browsing_lists_every_picture_once(server):
    seen, offset = [], 0
    while offset is not None:
        page = server.get("/api/images", {"order": "path", "limit": 50, "offset": offset}).json
        seen += [image["path"] for image in page["images"]]
        offset = page["next_offset"]
    assert seen == sorted(seen) and len(seen) == len(set(seen)) == 120 == page["total"]


def test_months_and_cameras(quick, tmp_path):
    photos = tmp_path / "photos"
    (photos / "b").mkdir(parents=True)
    times = ["2023:12:31 23:00:00", "2024:05:01 10:00:00", "2024:05:31 10:00:00", None]
    for number, time in enumerate(times):
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Acme", f"Model {number % 2}"
        if time:
            exif[0x0132] = time
            exif.get_ifd(0x8769)[0x9003] = time
        place = photos / ("b" if number else "") / f"{number}.jpg"
        Image.new("RGB", (64, 48), (60 * number, 80, 90)).save(place, exif=exif)
    with Library.create(tmp_path / "dated", "tiny") as library:
        library.index([photos], workers=1)
    with running(tmp_path / "dated", quick) as server:
        answer = server.get("/api/facets").json
        assert answer["months"] == [{"month": "2023-12", "count": 1}, {"month": "2024-05", "count": 2}]
        assert answer["undated"] == 1
        assert sum(camera["count"] for camera in answer["cameras"]) == 4
        assert answer["folders"] == [
            {"path": str(photos), "count": 1},
            {"path": str(photos / "b"), "count": 3},
        ]
        narrowed = server.get("/api/facets", {"under": str(photos / "b"), "camera": "model 1"}).json
        assert sum(month["count"] for month in narrowed["months"]) + narrowed["undated"] == 2
        listed = server.get("/api/images", {"after": "2024-05", "before": "2024-06"}).json
        assert [Path(image["path"]).stem for image in listed["images"]] == ["2", "1"]
        assert listed["images"][0]["taken"].startswith("2024-05-31T10:00:00")
        assert [Path(image["path"]).stem for image in server.get("/api/images").json["images"]] == ["2", "1", "0", "3"]
        shutil.copy(photos / "b" / "1.jpg", photos / "b" / "copy.jpg")
        with Library.open(tmp_path / "dated") as library:
            library.index(workers=1)
        assert server.get("/api/facets").json["months"][1] == {"month": "2024-05", "count": 3}


def test_thumbnails_are_webp_and_known_by_their_content(server):
    image = first(server)
    for size in (160, 320):
        answer = server.get(f"/api/images/{image['id']}/thumbnail", {"size": size})
        assert answer.headers["Content-Type"] == "image/webp"
        assert max(Image.open(io.BytesIO(answer.body)).size) == min(size, max(image["width"], image["height"]))
        again = server.get(f"/api/images/{image['id']}/thumbnail", {"size": size}, If_None_Match=answer.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
    assert "immutable" in server.get(image["thumbnail"]).headers["Cache-Control"]
    assert "no-cache" in server.get(f"/api/images/{image['id']}/thumbnail").headers["Cache-Control"]
    assert server.get(f"/api/images/{image['id']}/thumbnail", {"size": 99}).status == 400


def test_originals_are_the_files_whole_and_in_part(server):
    image = first(server)
    data = Path(image["path"]).read_bytes()
    answer = server.get(image["original"])
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "image/jpeg", data)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    part = server.get(image["original"], Range="bytes=10-19")
    assert (part.status, part.body) == (206, data[10:20])
    assert server.get(image["original"], If_None_Match=answer.headers["ETag"]).status == 304


@pytest.fixture(scope="module")
def odd(tmp_path_factory, quick):
    """A server over files that browsers do not show, are not what they are named, or have gone."""
    folder = tmp_path_factory.mktemp("odd")
    picture = Image.linear_gradient("L").convert("RGB").resize((300, 200))
    picture.save(folder / "a.tif")
    picture.save(folder / "b.png")
    (folder / "b.png").rename(folder / "named.jpg")
    picture.rotate(90).save(folder / "gone.jpg")
    picture.rotate(180).save(folder / "replaced.jpg")
    picture.rotate(45).save(folder / b"\xff name.jpg".decode("utf-8", "surrogateescape"))
    path = tmp_path_factory.mktemp("odd-library") / "odd"
    with Library.create(path, "tiny") as library:
        library.index([folder], workers=1)
    (folder / "gone.jpg").unlink()
    (folder / "replaced.jpg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    with running(path, quick) as server:
        images = server.get("/api/images").json["images"]
        yield server, {Path(image["path"]).name: image for image in images}


def test_what_browsers_do_not_show_is_a_download_with_a_thumbnail(odd):
    server, images = odd
    answer = server.get(images["a.tif"]["original"])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    shown = server.get(f"/api/images/{images['a.tif']['id']}/thumbnail", {"size": 1280})
    assert Image.open(io.BytesIO(shown.body)).size == (300, 200)


def test_the_content_decides_and_not_the_name(odd):
    server, images = odd
    assert server.get(images["named.jpg"]["original"]).headers["Content-Type"] == "image/png"
    replaced = server.get(images["replaced.jpg"]["original"])
    assert replaced.headers["Content-Type"] == "application/octet-stream"
    assert replaced.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in replaced.headers["Content-Security-Policy"]
    assert server.get(images["replaced.jpg"]["thumbnail"]).status == 422


def test_files_that_are_gone_and_names_that_are_no_text(odd):
    server, images = odd
    assert server.get(images["gone.jpg"]["original"]).status == 404
    assert server.get(images["gone.jpg"]["thumbnail"]).status in (404, 422)
    [strange] = [image for name, image in images.items() if name.endswith(" name.jpg")]
    assert server.get(strange["original"]).status == 200
    assert server.get("/api/search", {"like": strange["id"]}).status == 200


def test_the_cache_of_thumbnails_is_bounded(tmp_path, server):
    cache = Thumbnails(tmp_path, server.app.state.services.decoders, most_bytes=12_000)
    images = server.get("/api/images", {"limit": 30}).json["images"]
    for image in images:
        cache.get(Path(image["path"]), Path(image["path"]).stem * 2, 160)
        assert sum(file.stat().st_size for file in tmp_path.rglob("*.webp")) <= 12_000
    assert any(tmp_path.rglob("*.webp"))


def test_one_thumbnail_wanted_by_many_is_made_once(tmp_path, server):
    class Counting:
        made = 0

        def run(self, path, task):
            Counting.made += 1
            return server.app.state.services.decoders.run(path, task)

    cache = Thumbnails(tmp_path, Counting(), most_bytes=10**9)
    path = Path(first(server)["path"])
    threads = [threading.Thread(target=cache.get, args=(path, "ab12", 160)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counting.made == 1


def test_generated_pictures_are_listed_and_their_thumbnails_marked(library_folder, tmp_path, quick):
    path = tmp_path / "with-generated"
    shutil.copytree(library_folder, path)
    with Library.open(path) as library:
        [made] = library.generate("a dog on the beach", seed=3)
    with running(path, replace(quick, thumbnails=tmp_path / "cache")) as server:
        [listed] = server.get("/api/generated").json["generated"]
        assert (listed["seed"], listed["path"], listed["width"]) == (3, str(made.path), Image.open(made.path).width)
        assert server.get(f"/api/generated/{listed['id']}").json == listed
        thumbnail = tmp_path / "t.webp"
        thumbnail.write_bytes(server.get(listed["thumbnail"]).body)
        assert verify(thumbnail).generated and verify(thumbnail).provenance.seed == 3
        assert server.get(listed["original"]).body == made.path.read_bytes()
