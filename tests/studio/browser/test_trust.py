"""The fidelity panel."""

from __future__ import annotations

from typing import Any

from tests.studio.browser.pages import IN_BROWSER, differs, expect, opened, restored, seen, shot, task

pytestmark = IN_BROWSER


def test_the_fidelity_of_a_result_is_shown(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Enlarge")
    page.locator("#tab-trust").click()
    expect(page.locator("#no-trust")).to_be_visible()
    page.locator("#tab-restore").click()
    restored(page)
    page.locator("#tab-trust").click()
    panel = page.locator("#trust-content")
    for text in ("Consistency", "dB", "Colour drift", "ΔE", "Unconfirmed detail", "NIQE", "Sharpness", "Noise"):
        expect(panel).to_contain_text(text)
    before = seen(page)
    panel.get_by_role("checkbox").check()
    page.wait_for_timeout(1000)
    assert differs(seen(page), before) > 0.5
    shot(page, "desktop_trust")
    panel.get_by_role("checkbox").uncheck()
    assert differs(seen(page), before) < 0.2
