"""What can be made of a picture: its menu, the dialogs, and the runs with progress and cancel, by pointer and keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clipkit import Library
from clipkit.catalog.rows import Details, Embedding, NewImage
from server.conftest import Server, running
from server.page.conftest import parameters, violations

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

MADE = {"timeout": 240_000}
"""The first picture of a server starts a process and loads the decoder."""
FINDING = ["More like this", "Why this picture?", "Show in the timeline", "Copy the path"]
MAKING = ["Vary", "Restyle\u2026", "Edit\u2026", "Extend\u2026", "Upscale", "Blend with\u2026"]


def menu_of_first_hit(page: Any) -> Any:
    """Open the menu of the first tile by keyboard and return it."""
    expect(page.locator(".tile-link").first).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    menu = page.get_by_role("menu")
    expect(menu).to_be_visible()
    return menu


def entries(menu: Any) -> list[str]:
    return [re.sub(r"\s+[a-z]$", "", text) for text in menu.get_by_role("menuitem").all_inner_texts()]


def run_of(page: Any, title: str, pictures: int) -> Any:
    """Wait for the end of a run, and return it."""
    page.wait_for_url(lambda address: "made=" in address and "job=" not in address, **MADE)
    run = page.locator(".run")
    expect(run.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(run.locator(".tile")).to_have_count(pictures)
    expect(run.locator(".job")).to_be_hidden()
    assert len(parameters(page)["made"]) == pictures
    return run


def sent(page: Any) -> list[tuple[str, Any]]:
    """Return a list that gets what the page posts from here on: the route and the body."""
    posted: list[tuple[str, Any]] = []

    def note(request: Any) -> None:
        if request.method == "POST" and "/api/" in request.url and "/uploads" not in request.url:
            posted.append((request.url.rpartition("/")[2], json.loads(request.post_data)))

    page.on("request", note)
    return posted


def test_a_hit_is_varied_and_the_rest_is_cancelled_by_keyboard(open_page, own_server):
    page = open_page("/?q=a+cat", server=own_server)
    posted = sent(page)
    menu = menu_of_first_hit(page)
    number = page.locator(".tile").first.get_attribute("data-key")
    assert entries(menu) == [*FINDING, *MAKING]
    expect(menu.get_by_role("menuitem").first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(menu.get_by_role("menuitem", name="Blend with")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)
    expect(page.locator(".tile-link").first).to_be_focused()
    assert parameters(page) == {"q": ["a cat"]}, "Escape closed the menu alone"
    page.keyboard.press("a")
    page.keyboard.press("v")
    page.keyboard.press("Enter")
    run = page.locator(".run")
    expect(run.get_by_role("heading", name="Variations")).to_be_visible()
    assert posted == [("vary", {"picture": number, "n": 4})]
    expect(run.get_by_role("progressbar")).to_be_visible()
    assert parameters(page)["from"] == [number]
    expect(run.locator(".tile")).not_to_have_count(0, **MADE)
    run.get_by_role("button", name="Cancel").press("Enter")
    expect(run.get_by_role("alert")).to_have_text("Cancelled.", **MADE)
    expect(run.get_by_role("heading", name="Variations")).to_be_focused()
    expect(run.get_by_label("Layout")).to_be_visible()
    made = parameters(page)["made"]
    assert 1 <= len(made) < 4
    assert run.locator(".badge").all_inner_texts() == ["Generated"] * len(made)
    page.reload()
    expect(page.locator(".run").locator(".tile")).to_have_count(len(made))
    expect(page.get_by_role("link", name="Made from")).to_be_visible()
    page.go_back()
    expect(page.locator(f'.tile[data-key="{number}"] .tile-link')).to_be_focused()
    assert parameters(page) == {"q": ["a cat"]}


def test_a_part_is_repainted_from_the_viewer(open_page, own_server):
    page = open_page("/?q=a+cat", server=own_server)
    posted = sent(page)
    page.locator(".tile-link").first.click()
    expect(page.locator(".details-facts")).to_contain_text("JPEG")
    page.keyboard.press("a")
    expect(page.get_by_role("menu")).to_be_visible()
    assert entries(page.get_by_role("menu")) == MAKING
    page.keyboard.press("e")
    page.keyboard.press("e")
    expect(page.get_by_role("menuitem", name="Extend")).to_be_focused()
    page.keyboard.press("e")
    page.keyboard.press("Enter")
    frame = page.get_by_role("application", name="Part to repaint")
    expect(frame).to_be_focused()
    frame.press("ArrowLeft")
    frame.press("Shift+ArrowDown")
    page.reload()
    expect(frame).to_be_focused()
    frame.press("ArrowRight")
    page.get_by_label("Paint there").fill("a dog")
    page.get_by_label("Paint there").press("Enter")
    run = run_of(page, "Edited", 1)
    (route, body), *more = posted
    assert not more and route == "edit" and body["text"] == "a dog" and body["box"] == [26, 24, 48, 48]
    assert run.locator(".badge").all_inner_texts() == ["Edited"]
    assert violations(page) == []
    run.locator(".tile-link").click()
    expect(page.get_by_role("heading", name="An edited photograph")).to_be_visible()
    expect(page.locator(".details-facts")).to_contain_text("clipkit edit")
    page.keyboard.press("Escape")
    page.wait_for_url(lambda address: "open=" not in address)
    page.go_back()
    page.wait_for_url(re.compile("open="))
    expect(page.locator(".pswp")).to_be_visible()


def test_a_mask_is_brushed_by_pointer_and_by_keyboard(open_page, own_server):
    page = open_page("/?act=edit&of=3", server=own_server)
    posted = sent(page)
    page.get_by_role("radio", name="Brush").check()
    brush, undo = page.get_by_role("application", name="Brush"), page.get_by_role("button", name="Undo")
    page.get_by_label("Paint there").fill("a frog")
    page.get_by_role("button", name="Paint it").click()
    expect(page.locator("#edit").get_by_role("alert")).to_contain_text("Paint over the part")
    box = brush.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()
    once = painted(page)
    assert once[0][0] > 200 and once[1] == [0, 0], "painted at the left, not at the right"
    brush.press("+")
    brush.press(" ")
    for _ in range(6):
        brush.press("Shift+ArrowRight")
    assert painted(page)[2] > once[2]
    for _ in range(7):
        undo.click()
    assert painted(page) == once
    page.get_by_role("button", name="Paint it").click()
    run = run_of(page, "Edited", 1)
    assert run.locator(".badge").all_inner_texts() == ["Edited"]
    assert posted[0][1]["mask"].startswith("upload:") and "box" not in posted[0][1]


def painted(page: Any) -> tuple[list[int], list[int], int]:
    """Return red and opacity at two places of the mask, at the left and at the right, and how much is painted."""
    return tuple(
        page.evaluate(
            """() => {
                const canvas = document.getElementById("edit-brush");
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                const at = (x) => {
                    const start = 4 * (Math.floor(canvas.height / 2) * canvas.width + Math.floor(x * canvas.width));
                    return [data[start], data[start + 3]];
                };
                let all = 0;
                for (let i = 3; i < data.length; i += 4) all += data[i] > 127;
                return [at(0.3), at(0.9), all];
            }"""
        )
    )


def test_an_edge_is_dragged_outwards(open_page, own_server):
    page = open_page("/?act=extend&of=3", server=own_server)
    posted = sent(page)
    left, right = page.get_by_label("Left"), page.get_by_label("Right")
    expect(left).to_be_focused()
    expect(left).to_have_value("24")
    left.fill("0")
    edge = page.locator('.extend-edge[data-side="right"]').bounding_box()
    x, y = edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y, steps=3)
    page.mouse.up()
    added = int(right.input_value())
    assert added > 24
    expect(page.locator("#extend-size")).to_have_text(f"96 \u00d7 96 becomes {96 + added} \u00d7 96.")
    right.fill("16")
    right.press("Enter")
    run_of(page, "Extended", 1)
    assert posted == [("extend", {"picture": "3", "left": 0, "right": 16, "top": 0, "bottom": 0})]
    assert violations(page) == []


def test_a_picture_is_blended_with_one_that_is_searched_for(open_page, own_server):
    page = open_page("/?act=blend&of=3", server=own_server)
    posted = sent(page)
    choices, make = page.get_by_role("radio"), page.get_by_role("button", name="Blend", exact=True)
    expect(page.get_by_label("Search for the other picture")).to_be_focused()
    expect(choices).not_to_have_count(0)
    expect(make).to_be_disabled()
    page.keyboard.type("a dog")
    expect(page.get_by_role("radio", name="The words a dog")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(choices.nth(1)).to_be_checked()
    page.get_by_label("Pictures on the way").select_option("3")
    make.click()
    run_of(page, "Blended", 3)
    (route, body), *_ = posted
    assert route == "blend" and body["items"][0] == "3" and body["items"][1].isdigit() and body["steps"] == 3


def test_what_is_restyled_can_be_made_again_and_a_refusal_is_one_line(open_page, own_server):
    page = open_page("/?q=a+cat&act=restyle&of=3", server=own_server)
    posted = sent(page)
    to = page.get_by_label("To", exact=True)
    expect(to).to_be_focused()  # what was searched for stands in "From"
    to.fill("a cat")
    to.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("are the same")
    open_page.complaints.clear()  # the browser logs the answer 4xx
    to.fill("a dog")
    page.get_by_label("How much").fill("0.3")
    expect(page.locator("#restyle output")).to_have_text("30%")
    to.press("Enter")
    run_of(page, "Restyled", 1)
    first = parameters(page)["made"]
    page.get_by_role("button", name="Again").click()
    page.wait_for_url(re.compile("job="))
    run_of(page, "Restyled", 1)
    assert parameters(page)["made"] != first
    assert (
        posted[1] == posted[2] == ("restyle", {"picture": "3", "from": "a cat", "to": "a dog", "n": 1, "amount": 0.3})
    )
    page.go_back()
    page.wait_for_url(lambda address: f"made={first[0]}" in address)
    expect(page.locator(f'.run .tile[data-key="generated:{first[0]}"]')).to_be_visible()


def test_the_dialogs_are_in_the_address(open_page):
    page = open_page("/?q=a+cat")
    menu = menu_of_first_hit(page)
    menu.get_by_role("menuitem", name="Extend").click()
    page.wait_for_url(re.compile("act=extend&of="))
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.go_back()
    expect(dialog).to_have_count(0)
    page.go_forward()
    expect(page.get_by_role("dialog", name="Extend")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.wait_for_url(lambda address: "act=" not in address)
    expect(page.locator(".tile-link").first).to_be_focused()
    page.goto(page.url + "&act=edit&of=999999")
    expect(page.locator("#toast")).to_contain_text("999999")
    page.wait_for_url(lambda address: "act=" not in address)
    open_page.complaints.clear()  # the browser logs the answer 4xx


@pytest.fixture
def without_decoder(tmp_path, quick: Any, scene_folder) -> Iterator[Server]:
    """A library of a model for photographs, of which no decoder is on this machine."""
    path = sorted(scene_folder.rglob("*.jpg"))[0]
    folder = tmp_path / "indexes" / "default"
    with Library.create(folder, "tiny") as library, library.catalog.writing():
        status = path.stat()
        image = NewImage(path, status.st_size, status.st_mtime_ns, "0" * 32, Details(96, 96, "JPEG"))
        vector = np.eye(1, 512, dtype=np.float32)[0]
        library.catalog.add_roots([path.parent], [])
        library.catalog.db.execute("DELETE FROM spaces")
        library.catalog.add_space("ViT-B-32-256/datacomp_s34b_b86k", 512)
        library.catalog.commit_batch(
            [image], space="ViT-B-32-256/datacomp_s34b_b86k", embeddings=[Embedding("0" * 32, vector)]
        )
        library.catalog.show_by_roots()
    with running(folder, replace(quick, thumbnails=tmp_path / "thumbnails")) as server:
        yield server


def test_what_cannot_be_made_is_not_offered_and_says_why(open_page, without_decoder):
    page = open_page(server=without_decoder)
    menu = menu_of_first_hit(page)
    *finding, reason = entries(menu)
    assert finding == ["More like this", "Show in the timeline", "Copy the path"]
    assert "is not on this machine" in reason and "clipkit decoders pull" in reason
    expect(menu.get_by_role("menuitem", name="is not on this machine")).to_be_disabled()
    assert violations(page) == []


def test_a_narrow_screen_shows_all_of_it(open_page):
    page = open_page("/?q=a+cat", width=360, height=740, has_touch=True, reduced_motion="reduce")
    page.locator(".tile-menu").first.tap()
    menu = page.get_by_role("menu")
    box = menu.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 740
    assert min(item.bounding_box()["height"] for item in menu.get_by_role("menuitem").all()) >= 44
    found = violations(page)
    for act in ("restyle", "edit", "extend", "blend"):
        page.goto(page.url.partition("?")[0] + f"?q=a+cat&act={act}&of=3")
        expect(page.get_by_role("dialog")).to_be_visible()
        overflow = page.evaluate(
            """[document.documentElement, ...document.querySelectorAll("dialog[open], dialog[open] *")]
               .filter((one) => one.scrollWidth > 360).map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert overflow == [], act
        found += violations(page, "dialog[open]")
    assert found == []


def test_a_hit_is_upscaled(open_page, own_server):
    page = open_page("/?q=a+cat", server=own_server)
    posted = sent(page)
    menu = menu_of_first_hit(page)
    number = page.locator(".tile").first.get_attribute("data-key")
    menu.get_by_role("menuitem", name="Upscale").click()
    run = run_of(page, "Upscaled", 1)
    assert posted == [("upscale", {"picture": number})]
    assert run.locator(".badge").all_inner_texts() == ["Edited"]


def test_why_a_picture_was_found(open_page):
    page = open_page("/?q=a+cat+on+the+beach")
    expect(page.locator(".tile-link").first).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("w")
    dialog = page.get_by_role("dialog", name="Why this picture?")
    expect(dialog.get_by_role("status")).to_contain_text("what you asked for")
    expect(dialog.get_by_role("img", name="Where the picture fits the search")).to_be_visible()
    expect(dialog.get_by_role("radio")).to_have_count(3)  # all of it, a cat, on the beach
    hot = "document.getElementById('why-heat').toDataURL()"
    whole = page.evaluate(hot)
    dialog.get_by_role("radio").nth(1).check()
    assert page.evaluate(hot) != whole
    assert violations(page, "dialog[open]") == []
    page.keyboard.press("Escape")
    expect(page.locator(".tile-link").first).to_be_focused()
