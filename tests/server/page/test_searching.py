"""The page as people use it: search, terms, pictures as queries, filters, the address, the viewer, the keyboard."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.conftest import running, wait_until
from server.page.conftest import parameters

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

TILES = ".tile-link"
DETAILS = ".details-path code"


def section(page: Any, title: str) -> Any:
    return page.locator("section.section", has=page.get_by_role("heading", name=title, exact=True))


def shown_path(page: Any) -> str:
    """Return the path of the picture in the viewer."""
    expect(page.locator(DETAILS)).not_to_be_empty()
    return page.locator(DETAILS).inner_text()


def path_of(page: Any, number: int) -> str:
    return page.evaluate(f"fetch('api/images/{number}').then((answer) => answer.json()).then((one) => one.path)")


def key(tile: Any) -> str:
    return tile.locator("xpath=ancestor-or-self::li").get_attribute("data-key")


def test_results_come_while_words_are_typed_and_older_requests_are_given_up(open_page):
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/search" in request.url else None)
    expect(page.get_by_role("heading", name=re.compile(r"\w+ 20\d\d")).first).to_be_visible()
    page.get_by_role("searchbox").press_sequentially("a cat on the beach", delay=15)
    expect(section(page, "Matches").locator(TILES)).not_to_have_count(0)
    assert parameters(page) == {"q": ["a cat on the beach"]}
    assert 1 <= len(asked) <= 6, "letters typed within the pause share a request"
    caption = section(page, "Matches").locator(".tile-caption").first
    expect(caption).to_have_text(re.compile(r"(Very likely|Likely|Possible)\s+\d+%"))
    expect(section(page, "Near misses")).to_be_visible()
    assert page.title() == "a cat on the beach - clipkit"
    page.go_back()
    expect(page.get_by_role("heading", name=re.compile(r"\w+ 20\d\d")).first).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_value("")
    page.go_forward()
    expect(page.get_by_role("searchbox")).to_have_value("a cat on the beach")
    expect(section(page, "Matches").locator(TILES)).not_to_have_count(0)


def test_terms_are_chips_with_sign_and_weight(open_page):
    page = open_page()
    box, chips = page.get_by_role("searchbox"), page.locator("#terms .term")
    box.fill("a dog")
    box.press("Shift+Enter")
    expect(chips).to_have_count(1)
    box.fill("at night")
    box.press("Alt+Enter")
    expect(chips).to_have_count(2)
    assert parameters(page) == {"term": ["a dog~1", "at night~-0.5"]}
    page.get_by_label("Weight of a dog").select_option("2")
    expect(section(page, "Near misses").or_(section(page, "Nearest pictures")).locator(TILES).first).to_be_visible()
    assert parameters(page)["term"] == ["a dog~2", "at night~-0.5"]
    page.get_by_role("group", name="Avoided: at night").get_by_role("button", name="press to want it").click()
    assert parameters(page)["term"] == ["a dog~2", "at night~1"]
    page.get_by_role("button", name="Remove a dog").click()
    expect(chips).to_have_count(1)
    assert parameters(page) == {"term": ["at night~1"]}
    box.fill("a cat")
    expect(page.get_by_label("Weight of a cat")).to_be_visible()
    page.get_by_label("Weight of a cat").select_option("4")
    page.wait_for_url(re.compile("q_weight=4"))


def test_a_dropped_picture_is_searched_for_and_survives_a_reload(open_page, scene_folder: Path):
    page = open_page()
    picture = sorted(scene_folder.rglob("*.jpg"))[5]
    give(page, "drop", picture)
    expect(page.locator(".term-picture")).to_be_visible()
    expect(section(page, "Matches").locator(TILES)).not_to_have_count(0)
    assert parameters(page)["like"][0].startswith("upload:")
    section(page, "Matches").locator(TILES).first.click()
    assert shown_path(page) == str(picture)
    page.keyboard.press("Escape")
    page.wait_for_url(lambda address: "open=" not in address)  # or going back would abort the reload
    page.reload()
    expect(page.locator(".term-picture")).to_be_visible()
    expect(section(page, "Matches").locator(TILES)).not_to_have_count(0)


def test_a_pasted_picture_and_a_part_of_it(open_page, scene_folder: Path):
    page = open_page()
    give(page, "paste", sorted(scene_folder.rglob("*.jpg"))[7])
    page.get_by_role("button", name="Select a part of the picture").click()
    frame = page.get_by_role("application", name="Selected part")
    expect(frame).to_be_focused()
    frame.press("ArrowLeft")
    frame.press("Shift+ArrowDown")
    page.get_by_role("button", name="Search by this part").click()
    page.wait_for_url(re.compile("region="))
    x, y, width, height = map(int, parameters(page)["region"][0].split(","))
    assert (x, y, width, height) == (22, 24, 48, 50), "of a picture of 96 x 96 pixels"
    expect(page.locator(TILES).first).to_be_visible()


def test_a_file_that_is_no_picture_gets_a_message(open_page, tmp_path):
    page = open_page()
    wrong = tmp_path / "wrong.jpg"
    wrong.write_bytes(b"not a picture")
    page.locator("#file").set_input_files(wrong)
    expect(page.locator("#toast")).to_be_visible()
    assert parameters(page) == {}
    open_page.complaints.clear()  # the browser logs the answer 4xx


def test_more_like_this(open_page):
    page = open_page("/?q=a+cat+on+the+beach")
    tile = page.locator(".tile").first
    number = tile.get_attribute("data-key")
    tile.hover()
    tile.get_by_role("button", name="More like").click()
    page.wait_for_url(re.compile(f"like={number}$"))
    expect(page.locator(f'.section-matches .tile[data-key="{number}"]')).to_be_visible()
    assert page.get_by_role("searchbox").input_value() == ""


def test_filters_by_brush_camera_folder_and_place(open_page):
    page = open_page("/?q=a+cat")
    page.get_by_role("button", name="Filters").click()
    bars = page.locator(".bar-month")
    expect(bars).not_to_have_count(0)
    brush = page.locator("#months-bars").bounding_box()
    page.mouse.move(brush["x"] + 2, brush["y"] + 20)
    page.mouse.down()
    page.mouse.move(brush["x"] + brush["width"] / 2, brush["y"] + 20, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("before="))
    state = parameters(page)
    assert state["after"] < state["before"] and state["before"][0].endswith("-01")
    page.get_by_label("Camera").select_option("Canon EOS R8")
    page.wait_for_url(re.compile("camera="))
    expect(page.locator("#loading")).to_be_hidden()
    taken = page.evaluate(
        """fetch("api/search" + location.search).then((answer) => answer.json()).then((found) =>
           found.hits.map((hit) => [hit.id, hit.taken, hit.camera]))"""
    )
    assert {camera for _, _, camera in taken} == {"Canon EOS R8"}
    assert all(state["after"][0] <= when < state["before"][0] for _, when, _ in taken)
    expect(page.locator(TILES)).to_have_count(len(taken))
    page.get_by_placeholder("Latitude").fill("-1.29")
    page.get_by_placeholder("Longitude").fill("36.82")
    page.get_by_placeholder("Within km").fill("50")
    page.get_by_placeholder("Within km").press("Tab")
    page.wait_for_url(re.compile("near=-1.29,36.82,50"))
    page.get_by_label("Folder").select_option(index=1)
    page.wait_for_url(re.compile("under="))
    expect(page.locator("#terms .is-filter")).to_have_count(4)
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator("#terms .is-filter")).to_have_count(0)
    assert parameters(page) == {"q": ["a cat"]}


def test_months_are_chosen_by_keyboard(open_page):
    page = open_page()
    page.keyboard.press("f")
    expect(page.locator(".bar-month")).not_to_have_count(0)
    first = page.get_by_label("First month")
    expect(first).to_be_focused()
    first.press("ArrowRight")
    first.press("ArrowRight")
    page.wait_for_url(re.compile("after="))
    assert parameters(page)["after"] == ["2023-03-01"]
    expect(page.locator('.month[data-month="2023-02"]')).to_have_count(0)
    expect(page.locator('.month[data-month="2023-03"]')).to_have_count(1)


def test_the_whole_state_is_in_the_address(open_page):
    address = "/?q=a+dog&term=at+night~-0.5&like=3&like_weight=0.5&after=2023-01-01&camera=Canon"
    page = open_page(address)
    expect(page.get_by_role("searchbox")).to_have_value("a dog")
    expect(page.locator("#terms .term")).to_have_count(5)
    expect(page.get_by_label("Weight of Picture 3")).to_have_value("0.5")
    expect(page.get_by_role("group", name="Avoided: at night")).to_be_visible()
    expect(page.locator(TILES)).not_to_have_count(0)
    before = [key(tile) for tile in page.locator(TILES).all()]
    page.reload()
    expect(page.locator(TILES)).to_have_count(len(before))
    assert [key(tile) for tile in page.locator(TILES).all()] == before
    page.locator(TILES).nth(2).click()
    expect(page.locator(".pswp")).to_be_visible()
    chosen = parameters(page)["open"]
    page.reload()
    expect(page.locator(".pswp")).to_be_visible()
    assert parameters(page)["open"] == chosen
    page.go_back()
    expect(page.locator(".pswp")).to_have_count(0)
    assert "open" not in parameters(page)


def test_a_search_that_cannot_be_done_says_why(open_page):
    page = open_page("/?q=a+cat&like=999999")
    expect(page.get_by_role("alert")).to_contain_text("That did not work")
    expect(page.get_by_role("alert")).to_contain_text("999999")
    open_page.complaints.clear()  # the browser logs the answer 4xx


def test_back_leads_to_where_the_page_was_and_another_search_to_its_top(open_page):
    page = open_page("/?q=a+cat", height=400)
    page.get_by_role("button", name="More near misses").click()
    expect(page.locator(TILES)).to_have_count(120)
    page.locator(TILES).nth(80).focus()
    expect(page.locator(TILES).nth(80)).to_be_in_viewport()
    kept = "scrollY > 0 && Number(sessionStorage.getItem(`scroll:${history.state.key}`)) === Math.round(scrollY)"
    wait_until(lambda: page.evaluate(kept))
    page.keyboard.press("m")
    page.wait_for_url(re.compile("like="))
    wait_until(lambda: page.evaluate("scrollY") == 0)
    page.go_back()
    expect(page.locator(TILES).nth(80)).to_be_focused()
    expect(page.locator(TILES).nth(80)).to_be_in_viewport()
    page.get_by_role("searchbox").fill("a dog")
    page.wait_for_url(re.compile(r"q=a\+dog"))
    expect(page.locator("#loading")).to_be_hidden()
    wait_until(lambda: page.evaluate("scrollY") == 0)


def test_a_server_that_is_away_is_tried_again(open_page, library_folder: Path, quick: Any):
    with running(library_folder, quick) as server:
        page = open_page("/", server=server)
        expect(page.locator(TILES).first).to_be_visible()
    page.get_by_role("searchbox").fill("a cat")
    expect(page.get_by_role("alert")).to_contain_text("The server is away")
    with running(library_folder, replace(quick, port=server.port)):
        page.get_by_role("button", name="Try again").click()
        expect(section(page, "Matches").locator(TILES)).not_to_have_count(0)
        page.context.close()
    open_page.complaints.clear()  # the browser logs the failed requests


def test_everything_by_keyboard(open_page):
    page = open_page()
    expect(page.locator(TILES).first).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("a cat")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Near misses")).to_be_visible()
    page.keyboard.press("ArrowRight")
    tiles = page.locator(TILES)
    expect(tiles.first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(tiles.nth(1)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.getBoundingClientRect().top")
    assert below > tiles.first.bounding_box()["y"]
    page.keyboard.press("ArrowUp")
    expect(tiles.first).to_be_focused()
    page.keyboard.press("Enter")
    first = shown_path(page)
    page.keyboard.press("ArrowRight")
    expect(page.locator(DETAILS)).not_to_have_text(first)
    page.keyboard.press("i")
    expect(page.locator(DETAILS)).to_be_hidden()
    page.keyboard.press("i")
    page.keyboard.press("Escape")
    expect(page.locator(".pswp")).to_have_count(0)
    expect(tiles.nth(1)).to_be_focused()
    number = key(tiles.nth(1))
    page.keyboard.press("m")
    page.wait_for_url(re.compile(f"like={number}$"))
    expect(page.locator(".section-matches .tile")).not_to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator(".month")).not_to_have_count(0)
    page.keyboard.press("g")
    page.wait_for_url(re.compile("view=generated"))
    page.keyboard.press("t")
    expect(page.locator(".month")).not_to_have_count(0)


def test_every_tile_is_reached_by_tab_as_one_stop(open_page):
    page = open_page("/?q=a+cat")
    expect(page.locator(".section-matches .tile").first).to_be_visible()
    assert page.locator('.tile-link[tabindex="0"]').count() == 1
    page.locator("#help-button").focus()
    page.keyboard.press("Tab")
    expect(page.locator(TILES).first).to_be_focused()


def test_the_viewer_goes_on_into_the_next_page(open_page):
    page = open_page("/?q=a+cat")
    expect(page.locator(TILES)).to_have_count(60)
    page.locator(TILES).nth(58).click()
    seen = {shown_path(page)}
    for _ in range(4):
        before = shown_path(page)
        page.keyboard.press("ArrowRight")
        expect(page.locator(DETAILS)).not_to_have_text(before)
        seen.add(shown_path(page))
    assert len(seen) == 5
    expect(page.locator(TILES)).to_have_count(120)


def test_the_viewer_copies_the_path_and_shows_the_picture_in_the_timeline(open_page):
    page = open_page("/?q=a+cat", permissions=["clipboard-read", "clipboard-write"])
    page.locator(TILES).nth(3).click()
    path = shown_path(page)
    number = parameters(page)["open"][0]
    assert path == path_of(page, int(number))
    expect(page.locator(".details-facts")).to_contain_text("96 \u00d7 96")
    page.keyboard.press("c")
    expect(page.locator("#toast")).to_have_text("Path copied")
    assert page.evaluate("navigator.clipboard.readText()") == path
    page.keyboard.press("s")
    expect(page.locator(f'.month .tile[data-key="{number}"] .tile-link')).to_be_focused()
    expect(page.locator(f'.month .tile[data-key="{number}"]')).to_be_in_viewport()
    page.go_back()
    expect(page.locator(".pswp")).to_be_visible()


def test_a_part_of_a_picture_of_the_library(open_page):
    page = open_page("/?q=a+cat")
    page.locator(TILES).first.click()
    page.get_by_role("button", name="Search by a part").click()
    page.get_by_role("button", name="Search by this part").click()
    page.wait_for_url(re.compile("region=24,24,48,48"))
    expect(page.get_by_role("group", name="Wanted: Picture")).to_contain_text("part of this picture")


def test_a_narrow_screen_never_scrolls_sideways(open_page):
    page = open_page(width=360, height=740, has_touch=True)
    for path in ("", "?q=a+cat&term=at+night~-0.5&like=3&camera=Canon", "?view=generated", "?q=a+violin+on+the+beach"):
        page.goto(page.url.partition("?")[0] + path)
        expect(page.locator(".section:visible, .notice").first).to_be_visible()
        page.locator("#filters-toggle").click()
        expect(page.locator(".bar-month").first).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    page.goto(page.url.partition("?")[0] + "?q=a+cat")
    page.locator(TILES).first.tap()
    expect(page.get_by_role("button", name="More like this")).to_be_visible()
    box = page.locator(".details").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360


def give(page: Any, event: str, picture: Path) -> None:
    """Drop or paste a file onto the page."""
    page.evaluate(
        """([event, data, name]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
            const options = { bubbles: true, cancelable: true };
            const given = event === "paste"
                ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
                : new DragEvent(event, { ...options, dataTransfer: transfer });
            document.body.dispatchEvent(given);
        }""",
        [event, base64.b64encode(picture.read_bytes()).decode(), picture.name],
    )
