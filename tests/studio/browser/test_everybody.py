"""Windows of all sizes, both colours, the keyboard, screen readers; and who may not come in."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.studio.browser.pages import (
    AXE,
    DESKTOP,
    IN_BROWSER,
    PHONE,
    expect,
    opened,
    opened_hidden,
    previewed,
    restored,
    shot,
    task,
)
from tests.studio.serving import Server

pytestmark = IN_BROWSER


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", ["desktop", "phone"])
def test_it_fits_the_window_in_both_colours(
    visit: Callable[..., Any], pictures: dict[str, bytes], window: str, scheme: str
) -> None:
    page = visit(**(PHONE if window == "phone" else DESKTOP), color_scheme=scheme)
    page.locator("#models .model").first.wait_for(state="attached")
    opened_hidden(page, pictures)
    previewed(page)
    width, height = page.viewport_size["width"], page.viewport_size["height"]
    for name in ("pictures", "restore", "queue", "trust"):
        tab = page.locator(f"#tab-{name}")
        if tab.is_visible():
            if tab.get_attribute("aria-expanded") == "false":
                tab.click()
            expect(page.locator(f"#panel-{name}")).to_be_visible()
        page.wait_for_timeout(300)
        shot(page, f"{window}_{scheme}_{name}")
        for part in page.locator("#toolbar button:visible, nav button:visible, #run:visible, #canvas").all():
            box = part.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width + 0.5, part
            assert box["y"] >= 0 and box["y"] + box["height"] <= height + 0.5, part
        assert page.locator("#canvas").bounding_box()["height"] > height * 0.25  # the picture has the space
    ground = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))[5, width // 2]
    assert (ground < 100) == (scheme == "dark")


def test_the_switch_of_colours_is_kept(page: Any) -> None:
    switch = page.locator("#theme")
    expect(switch).to_have_attribute("aria-label", "Colours: system")
    switch.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_everything_is_reached_by_keyboard_with_a_name_and_a_visible_focus(
    visit: Callable[..., Any], pictures: dict[str, bytes]
) -> None:
    page = visit(bypass_csp=True)
    page.locator("#models .model").first.wait_for()
    opened(page, pictures, "small.png")
    task(page, "Undo a known blur")
    page.locator("#models summary", has_text="other").first.click()
    restored_kernel(page)
    for tab in ("restore", "queue", "trust"):
        page.locator(f"#tab-{tab}").click()
        if tab == "trust":
            page.locator("#trust-content table").wait_for()
        wanted = page.evaluate(_CONTROLS)
        reached: dict[str, Any] = {}
        for _ in range(300):
            page.keyboard.press("Tab")
            here = page.evaluate(_FOCUSED)
            if here is None:
                continue  # past the end: the browser's own controls, then the first again
            if here["path"] in reached:
                break
            reached[here["path"]] = here
        assert not [html for path, html in wanted.items() if path not in reached]
        assert not [here["html"] for here in reached.values() if not here["name"]]
        assert not [here["html"] for here in reached.values() if not here["ring"]], "no visible focus"


def restored_kernel(page: Any) -> None:
    page.locator('#controls [data-control="kernel"]').get_by_role("button", name="Use this motion").click()
    expect(page.locator(".kernel-shown img")).to_be_visible()
    restored(page)


_PATH = """const path = (e) => { const p = []; for (; e && e !== document.body; e = e.parentElement) p.unshift([...e.parentElement.children].indexOf(e)); return p.join('.'); };"""
# what a mouse can use; of the radio buttons of one group the keyboard visits one, the arrows the others
_CONTROLS = f"""() => {{ {_PATH}
    return Object.fromEntries([...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter((e) =>
        e.checkVisibility() && !e.disabled && !e.closest('dialog') && !(e.type === 'radio' && !e.checked)
        && !(e.type === 'file' && e.hidden)).map((e) => [path(e), e.outerHTML.slice(0, 200)])); }}"""
_FOCUSED = f"""() => {{ {_PATH}
    const e = document.activeElement;
    if (!e || e === document.body) return null;
    const named = (x) => (x.getAttribute('aria-label') || (x.labels && [...x.labels].map((l) => l.innerText).join(' ')) || x.innerText || x.title || '').trim();
    const ring = [e, e.nextElementSibling, ...e.querySelectorAll('*')].some((x) => x && getComputedStyle(x).outlineStyle !== 'none' && parseFloat(getComputedStyle(x).outlineWidth) >= 2);
    return {{path: path(e), name: named(e), ring, html: e.outerHTML.slice(0, 200)}}; }}"""


@pytest.mark.skipif(AXE is None, reason="axe-core is not installed (npm install axe-core, or RESTORA_AXE=axe.min.js)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Callable[..., Any], pictures: dict[str, bytes], scheme: str) -> None:
    page = visit(bypass_csp=True, color_scheme=scheme)
    page.locator("#models .model").first.wait_for()

    def violations() -> list[Any]:
        page.wait_for_timeout(300)
        found = page.evaluate(
            "() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})"
        )
        return [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"]]) for v in found["violations"]]

    page.add_script_tag(path=AXE)
    assert violations() == []
    opened(page, pictures, "small.png")
    task(page, "Undo a known blur")
    restored_kernel(page)
    assert violations() == []
    for tab in ("queue", "trust"):
        page.locator(f"#tab-{tab}").click()
        if tab == "trust":
            page.locator("#trust-content table").wait_for()
        assert violations() == []
    page.keyboard.press("b")
    page.keyboard.press("?")
    assert violations() == []


def test_the_help_names_the_keys_and_closes(page: Any) -> None:
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Help")
    expect(dialog).to_contain_text("Space")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_who_has_no_token_is_told_so(
    browser: Any, visit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = Server(tmp_path / "state", "--token", "correct-horse-battery")
    try:
        stranger = visit(guarded.url.partition("?")[0], expected="401")
        expect(stranger.locator("body")).to_contain_text("token")
        page = visit(f"{guarded.url.partition('?')[0]}?token=correct-horse-battery")
        page.locator("#models .model").first.wait_for(timeout=120_000)
        assert "token" not in page.url
    finally:
        for context in browser.contexts:  # before what they listen to ends
            context.close()
        guarded.interrupt()
