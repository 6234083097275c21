"""Opening pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.studio.browser.pages import IN_BROWSER, choose, expect, opened, previewed, shot

pytestmark = IN_BROWSER


def test_pictures_of_all_kinds_are_opened_and_described(page: Any, pictures: dict[str, bytes]) -> None:
    expect(page.locator("#empty")).to_be_visible()
    shot(page, "desktop_empty")
    opened(page, pictures, "twelve_megapixels.jpg", "sixteen_bit.png", "transparent.png", "portrait.png")
    facts = page.locator("#details")
    expect(facts).to_contain_text("512 \N{MULTIPLICATION SIGN} 512")
    expect(facts).to_contain_text("What the look found")
    expect(facts).to_contain_text("\N{GREEK SMALL LETTER SIGMA}")
    choose(page, "twelve_megapixels.jpg")
    for text in ("4000 \N{MULTIPLICATION SIGN} 3000, 12 MP", "JPEG", "8 bit", "JPEG quality", "88"):
        expect(facts).to_contain_text(text)
    choose(page, "sixteen_bit.png")
    expect(facts).to_contain_text("16 bit")
    choose(page, "transparent.png")
    expect(facts).to_contain_text("transparency")
    previewed(page)
    shot(page, "desktop_transparent")


def test_what_is_no_picture_is_refused_beside_its_name(visit: Callable[..., Any]) -> None:
    page = visit(expected="415")
    page.locator("#file-input").set_input_files(
        [{"name": "<b>letter</b>.txt", "mimeType": "text/plain", "buffer": b"Dear all"}]
    )
    row = page.locator("#uploads li")
    expect(row.get_by_role("alert")).to_be_visible()
    expect(row.locator(".name")).to_have_text("<b>letter</b>.txt")  # a name is a text, never markup
    row.get_by_role("button").click()
    expect(page.locator("#uploads li")).to_have_count(0)
    expect(page.locator("#no-files")).to_be_visible()


_GIVEN = """(kind, name, bytes) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}));
    document.dispatchEvent(kind === 'paste' ? new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true})
        : new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(visit: Callable[..., Any], pictures: dict[str, bytes], kind: str) -> None:
    page = visit(bypass_csp=True)
    page.locator("#models .model").first.wait_for()
    give = f"([kind, name, bytes]) => ({_GIVEN})(kind, name, bytes)"
    if kind == "drop":
        page.evaluate(give, ["dragenter", "a.png", []])
        expect(page.locator("#drop")).to_be_visible()
    page.evaluate(give, [kind, f"{kind}.png", list(pictures["small.png"])])
    expect(page.locator("#files .name")).to_have_text(f"{kind}.png")
    expect(page.locator("#drop")).to_be_hidden()


def test_a_folder_is_opened_by_its_pictures(page: Any, pictures: dict[str, bytes], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(pictures["small.png"])
    (tmp_path / "notes.txt").write_text("not a picture")
    page.locator("#folder-input").set_input_files(tmp_path)
    expect(page.locator("#files li")).to_have_count(2)
    page.locator("#files").get_by_role("button", name="Remove a.png").click()
    expect(page.locator("#files li")).to_have_count(1)
    assert page.locator("#uploads li").count() == 0
