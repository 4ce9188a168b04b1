"""axe-core finds nothing wrong in any view, in either colour scheme."""

from __future__ import annotations

from typing import Any

import pytest

from server.page.conftest import violations

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


def ready(page: Any) -> None:
    expect(page.locator(".section:visible, .notice").first).to_be_visible()
    expect(page.locator("#loading")).to_be_hidden()
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {})))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_violation(open_page, scheme: str):
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    ready(page)
    found = {"timeline": violations(page)}
    page.keyboard.press("f")
    expect(page.locator(".bar-month").first).to_be_attached()
    found["filters"] = violations(page)
    page.keyboard.press("?")
    found["shortcuts"] = violations(page)
    page.keyboard.press("Escape")
    for view in ("?q=a+cat&term=at+night~-0.5&like=3&camera=Canon", "?q=a+violin+on+the+beach", "?view=generated"):
        page.goto(page.url.partition("?")[0] + view)
        ready(page)
        found[view] = violations(page)
    page.goto(page.url.partition("?")[0] + "?q=a+cat")
    ready(page)
    page.locator(".tile-link").first.click()
    expect(page.locator(".details-facts")).to_contain_text("JPEG")
    found["viewer"] = violations(page)
    page.keyboard.press("a")
    expect(page.get_by_role("menu")).to_be_visible()
    found["menu in the viewer"] = violations(page, ".menu")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Search by a part").click()
    found["part"] = violations(page)
    for act in ("restyle", "edit", "extend", "blend"):
        page.goto(page.url.partition("?")[0] + f"?q=a+cat&act={act}&of=3")
        expect(page.get_by_role("dialog")).to_be_visible()
        ready(page)
        if act == "edit":
            page.get_by_role("radio", name="Brush").check()
        found[act] = violations(page, "dialog[open]")
    page.goto(page.url.partition("?")[0])
    ready(page)
    page.get_by_role("button", name="Colours").click()
    found["colours"] = violations(page, "#scheme")
    assert found == dict.fromkeys(found, [])


def test_a_narrow_screen_has_none_either(open_page):
    page = open_page("/?q=a+cat", width=360, height=740, has_touch=True, reduced_motion="reduce")
    ready(page)
    found = violations(page)
    page.locator(".tile-link").first.tap()
    expect(page.locator(".details-facts")).to_contain_text("JPEG")
    assert found + violations(page) == []


def test_nothing_moves_for_those_who_asked_for_less_motion(open_page):
    page = open_page("/?q=a+cat", reduced_motion="reduce")
    ready(page)
    page.locator(".tile-link").first.click()
    expect(page.locator(".details-facts")).to_contain_text("JPEG")
    assert page.evaluate("document.getAnimations({subtree: true}).length") == 0
    durations = page.evaluate(
        """[...document.querySelectorAll('*')].map((one) => getComputedStyle(one).transitionDuration)
           .filter((duration) => !/^(0s(, )?)+$/.test(duration))"""
    )
    assert durations == []
