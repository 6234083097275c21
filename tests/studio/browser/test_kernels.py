"""The kernel of a known blur: picked, drawn, written, uploaded, estimated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.studio.browser.pages import IN_BROWSER, expect, opened, restored, shot, task

pytestmark = IN_BROWSER


def test_a_kernel_is_picked_drawn_written_uploaded_and_estimated(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    page.locator("label", has_text="Live preview").get_by_role("switch").uncheck()
    task(page, "Undo a known blur")
    field = page.locator('#controls [data-control="kernel"]')
    shown = field.locator(".kernel-shown")
    page.locator("#run").click()
    expect(page.locator("#run-problem").get_by_role("alert")).to_contain_text("kernel")

    page.get_by_role("button", name="Pick it on the picture").click()
    box = page.locator("#canvas").bounding_box()
    scale = (box["height"] - 24) / 128
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 300 + 12 * scale, box["y"] + 300, steps=4)
    page.mouse.up()
    expect(shown).to_contain_text("motion:12")
    expect(shown.locator("img")).to_be_visible()

    field.get_by_role("radio", name="Draw").check()
    drawing = field.locator("canvas")
    drawing.scroll_into_view_if_needed()
    drawing.focus()
    for key in ("Space", "ArrowRight", "Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(shown).to_contain_text("drawn")
    shot(page, "desktop_kernel")

    field.get_by_role("radio", name="Text").check()
    field.locator("textarea").fill("disk:3")
    field.get_by_role("button", name="Use this formula").click()
    expect(shown).to_contain_text("disk:3")

    field.get_by_role("radio", name="Upload").check()
    field.locator("input[type=file]").set_input_files(
        {"name": "k.txt", "mimeType": "text/plain", "buffer": b"0 1 0\n1 4 1\n0 1 0\n"}
    )
    expect(shown).to_contain_text("3x3")
    restored(page)

    page.locator("#tab-restore").click()
    field.get_by_role("radio", name="Estimate").check()
    field.get_by_role("button", name="Estimate from this picture").click()
    expect(field.locator(".busy")).to_have_count(0)
    expect(field.get_by_role("alert").or_(shown.get_by_text("estimated").first).first).to_be_visible()


def test_a_wrong_kernel_is_refused_beside_its_field(visit: Callable[..., Any], pictures: dict[str, bytes]) -> None:
    page = visit(expected="400")
    opened(page, pictures, "small.png")
    task(page, "Undo a known blur")
    field = page.locator('#controls [data-control="kernel"]')
    field.get_by_role("radio", name="Text").check()
    field.locator("textarea").fill("../../etc/passwd")
    field.get_by_role("button", name="Use this formula").click()
    expect(field.get_by_role("alert")).to_contain_text("formula")
