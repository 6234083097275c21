"""Seeing: the divider, zoom, several panes, the difference, the live preview."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.studio.browser.pages import (
    IN_BROWSER,
    api,
    differs,
    expect,
    fingers,
    model,
    on_phone,
    opened,
    previewed,
    restored,
    seen,
    shot,
    task,
    unfolded,
)
from tests.studio.serving import until

pytestmark = IN_BROWSER


def test_the_divider_shows_before_and_after_and_space_the_input(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Remove noise")
    model(page, "Total variation")
    page.locator('#controls [data-control="sigma"] input[type=number]').fill("60")
    previewed(page)
    divider = page.get_by_role("slider", name="Divider between before and after")
    divider.focus()
    page.keyboard.press("End")
    left = seen(page)
    page.keyboard.press("Home")
    right = seen(page)
    assert differs(left[60:-60, 60:-60], right[60:-60, 60:-60]) > 1.5
    box = divider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 420, box["y"] + 300, steps=6)
    page.mouse.up()
    assert 20 < int(divider.get_attribute("aria-valuenow")) < 80
    half = seen(page)
    cut = half.shape[1] * int(divider.get_attribute("aria-valuenow")) // 100
    assert differs(half[60:-60, 60 : cut - 40], left[60:-60, 60 : cut - 40]) < 0.3
    assert differs(half[60:-60, cut + 40 : -60], right[60:-60, cut + 40 : -60]) < 0.3
    page.locator("#canvas").focus()
    page.keyboard.press("Space")
    expect(page.locator("#flip")).to_have_attribute("aria-pressed", "true")
    assert differs(seen(page)[60:-60, 60:-60], left[60:-60, 60:-60]) < 0.3
    page.keyboard.press("Space")
    expect(page.locator("#flip")).to_have_attribute("aria-pressed", "false")


def test_keys_wheel_and_drag_move_and_zoom(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "portrait.png")
    page.keyboard.press("r")
    previewed(page)
    zoom = page.locator("#zoom")
    fitted = zoom.inner_text()
    page.keyboard.press("1")
    expect(zoom).to_have_text("100 %")
    page.keyboard.press("+")
    expect(zoom).to_have_text("125 %")
    page.keyboard.press("-")
    page.keyboard.press("-")
    expect(zoom).to_have_text("80 %")
    page.keyboard.press("0")
    previewed(page)
    expect(zoom).to_have_text(fitted)
    page.locator("#canvas").hover()
    page.mouse.wheel(0, -300)
    expect(zoom).not_to_have_text(fitted)
    page.keyboard.press("1")
    before = seen(page)
    page.locator("#canvas").focus()
    page.keyboard.press("ArrowRight")
    after = seen(page)
    # what stood 80 pixels further right stands here now
    assert (
        differs(after[150:-150, 150:-250], before[150:-150, 230:-170])
        < 4
        < differs(after[150:-150, 150:-250], before[150:-150, 150:-250])
    )


def test_two_fingers_zoom_and_one_moves(visit: Callable[..., Any], pictures: dict[str, bytes]) -> None:
    page = on_phone(visit, pictures)
    page.keyboard.press("r")
    previewed(page)
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    zoom = page.locator("#zoom")
    fitted = int(zoom.inner_text().split()[0])
    fingers(page, [[(x - 40 - n, y), (x + 40 + n, y)] for n in range(0, 85, 5)])
    pinched = int(zoom.inner_text().split()[0])
    assert 2.5 < pinched / fitted < 3.5  # three times as far apart
    before = seen(page)
    fingers(page, [[(x - n, y)] for n in range(0, 65, 4)])
    after = seen(page)
    assert int(zoom.inner_text().split()[0]) == pinched
    moved = 2 * 64  # screen pixels
    inner = (slice(200, -200), slice(60, -60 - moved))
    assert differs(after[inner], before[200:-200, 60 + moved : -60]) < 4 < differs(after[inner], before[inner])


def test_a_large_picture_is_fetched_by_what_is_visible(page: Any, pictures: dict[str, bytes]) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/image?" in request.url else None)
    opened(page, pictures, "twelve_megapixels.jpg")
    seen(page)
    queries = [dict(re.findall(r"(\w+)=(\d+)", url)) for url in asked if "&w=" in url]
    assert queries and all(int(q["max"]) <= 512 for q in queries)
    assert max(int(q["w"]) for q in queries) > 512  # fitted: reduced tiles
    asked.clear()
    page.locator("#zoom-actual").click()
    seen(page)
    shot(page, "desktop_twelve_megapixels")
    queries = [dict(re.findall(r"(\w+)=(\d+)", url)) for url in asked if "&w=" in url]
    assert queries and sum(int(q["max"]) ** 2 for q in queries) < 6e6  # not the twelve million


def test_models_and_results_stand_side_by_side_and_move_together(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Remove noise")
    restored(page)
    unfolded(page, "Total variation").get_by_role("checkbox").check()
    expect(page.get_by_role("radio", name="Side by side")).to_be_checked()
    expect(page.locator("#labels span")).to_have_count(3)
    expect(page.locator("#labels")).to_contain_text("Total variation")
    expect(page.locator("#labels")).not_to_contain_text("to come")
    page.locator("#strip").get_by_role("button", name="Preview").click()
    page.locator("#strip").get_by_role("checkbox").check()
    expect(page.locator("#labels span")).to_have_count(4)
    page.get_by_role("button", name="Zoom in").click()
    page.keyboard.press("ArrowRight")
    image = seen(page)
    shot(page, "desktop_side_by_side")
    height, width = image.shape[0] // 2, image.shape[1] // 2
    panes = [
        image[r * height + 60 : (r + 1) * height - 20, c * width + 60 : (c + 1) * width - 60]
        for r in (0, 1)
        for c in (0, 1)
    ]
    # each shows the same place: closer to the first than that is to itself a little further
    for pane in panes[1:]:
        assert differs(panes[0], pane) < differs(panes[0][:, 16:], panes[0][:, :-16])


def test_the_difference_is_grey_where_nothing_changed(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Remove noise")
    blend = page.get_by_role("slider", name="Strength of the result")
    blend.fill("0")
    previewed(page)
    page.keyboard.press("d")
    expect(page.get_by_role("radio", name="Difference")).to_be_checked()
    middle = seen(page)[200:-200, 300:-300]
    assert np.abs(middle - 128).max() <= 4
    blend.fill("100")
    previewed(page)
    assert seen(page)[200:-200, 300:-300].std() > 1
    restored(page)
    assert seen(page)[200:-200, 300:-300].std() > 1


def test_a_slider_shows_a_new_preview_and_old_answers_are_dropped(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Remove noise")
    previewed(page)
    held, bodies = [], []

    def hold_the_first(route: Any) -> None:
        bodies.append(route.request.post_data_json)
        if len(bodies) == 1:
            held.append(route)
        else:
            route.continue_()

    page.route("**/api/previews", hold_the_first)
    slider = page.locator('#controls [data-control="sigma"] input[type=range]')
    slider.fill("80")
    until(lambda: (page.wait_for_timeout(50), held)[1])
    slider.fill("5")
    until(lambda: (page.wait_for_timeout(50), len(bodies) > 1)[1])
    previewed(page)
    now = seen(page)
    with contextlib.suppress(api.Error):  # the page has given it up already
        held[0].continue_()
    page.wait_for_timeout(1500)
    assert (seen(page) == now).all()
    assert [body["controls"]["sigma"] for body in bodies] == [80, 5]
    assert max(bodies[0]["crop"].values()) <= 1024
