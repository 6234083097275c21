"""Steering: the region, the brush, several results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.studio.browser.pages import (
    IN_BROWSER,
    differs,
    expect,
    fingers,
    model,
    on_phone,
    opened,
    previewed,
    seen,
    shot,
    task,
)

pytestmark = IN_BROWSER


def test_only_the_painted_region_is_restored(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Remove noise")
    model(page, "Total variation")
    page.locator('#controls [data-control="sigma"] input[type=number]').fill("80")
    page.keyboard.press("Escape")
    page.locator("#canvas").focus()
    page.keyboard.press("r")
    previewed(page)
    whole = seen(page)
    page.keyboard.press("Space")
    given = seen(page)
    page.keyboard.press("Space")
    page.keyboard.press("b")
    expect(page.get_by_role("group", name="Brush")).to_be_visible()
    box = page.locator("#canvas").bounding_box()
    x, y = box["width"] / 2, box["height"] / 2
    page.mouse.move(box["x"] + x - 150, box["y"] + y - 80)
    page.mouse.down()
    for line in range(5):
        page.mouse.move(box["x"] + x + (150 if line % 2 == 0 else -150), box["y"] + y - 80 + 20 * line, steps=8)
    page.mouse.up()
    shot(page, "desktop_mask")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#mask-status")).to_contain_text("Only the painted region")
    previewed(page)
    masked = seen(page)
    inside = (slice(int(y) - 60, int(y) - 20), slice(int(x) - 120, int(x) + 120))
    outside = (slice(int(y) + 160, int(y) + 220), slice(int(x) - 120, int(x) + 120))
    assert differs(masked[inside], whole[inside]) < 0.5 < differs(masked[inside], given[inside])
    assert differs(masked[outside], given[outside]) < 0.5 < differs(masked[outside], whole[outside])


def test_a_finger_paints_and_a_second_one_takes_it_back(visit: Callable[..., Any], pictures: dict[str, bytes]) -> None:
    page = on_phone(visit, pictures)
    page.keyboard.press("b")
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers(page, [[(x - 60 + n, y)] for n in range(0, 120, 8)])
    expect(page.locator("#mask-status")).to_contain_text("Only the painted region")
    shot(page, "phone_brush")
    page.keyboard.press("Control+z")
    expect(page.locator("#mask-status")).to_contain_text("Paint on the picture")
    zoom = page.locator("#zoom").inner_text()
    fingers(page, [[(x - 40, y)], *([(x - 40 - n, y), (x + 40 + n, y)] for n in range(0, 60, 5))])
    expect(page.locator("#zoom")).not_to_have_text(zoom)
    expect(page.locator("#mask-status")).to_contain_text("Paint on the picture")  # the pinch left no stroke


def test_the_brush_works_by_keyboard_and_can_be_undone(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    page.keyboard.press("b")
    page.locator("#canvas").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#mask-status")).to_contain_text("Only the painted region")
    page.keyboard.press("Control+z")
    expect(page.locator("#mask-status")).to_contain_text("Paint on the picture")
    page.get_by_role("button", name="Fill").click()
    page.get_by_role("button", name="Invert").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("group", name="Brush")).to_be_hidden()


def test_variants_are_shown_in_a_strip_and_one_is_picked(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Remove noise")
    page.locator("#variants summary").click()
    page.get_by_label("From").fill("10")
    page.get_by_label("to", exact=True).fill("40")
    page.get_by_role("button", name="Preview the variants").click()
    expect(page.locator("#strip .variant canvas")).to_have_count(4)
    shot(page, "desktop_variants")
    page.get_by_role("button", name="Pick the variant 30").click()
    expect(page.locator('#controls [data-control="sigma"] input[type=number]')).to_have_value("30")
    previewed(page)
    page.get_by_role("button", name="Restore them all").click()
    expect(page.locator("#strip [data-key^=j-]")).to_have_count(4)
