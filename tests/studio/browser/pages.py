"""What the tests in a browser need: where Chromium is, the two windows, and the page's parts by their names.

Debian's Chromium, driven by Playwright, on real pictures and the real server. Screenshots go to out/studio/ (not in git), on a
desktop and a phone size, to be looked at. The accessibility rules of axe-core are checked where it lies (RESTORA_AXE, or
node_modules beside the repository's root).
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
pytest.importorskip("httpx", reason="httpx, which the test client needs, is not installed")
pytest.importorskip("skimage", reason="scikit-image, which has the pictures, is not installed")

from playwright import sync_api as api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[3]
SHOTS = ROOT / "out" / "studio"
AXE = next(
    (
        p
        for p in (Path(os.environ.get("RESTORA_AXE", "axe.min.js")), ROOT / "node_modules/axe-core/axe.min.js")
        if p.is_file()
    ),
    None,
)

IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]
expect = api.expect
expect.set_options(timeout=60_000)
DESKTOP: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


def opened(page: Any, pictures: dict[str, bytes], *names: str) -> None:
    """Opens pictures and waits until the last of them is chosen."""
    kinds = {"jpg": "image/jpeg", "png": "image/png"}
    page.locator("#file-input").set_input_files(
        [{"name": n, "mimeType": kinds[n[-3:]], "buffer": pictures[n]} for n in names]
    )
    expect(page.locator("#uploads li")).to_have_count(0)
    for name in names:
        expect(page.locator("#files .name", has_text=name)).to_have_count(1)
    choose(page, names[-1])


def opened_hidden(page: Any, pictures: dict[str, bytes]) -> None:
    """Opens a picture where the list of pictures may not be in view."""
    page.locator("#file-input").set_input_files(
        [{"name": "portrait.png", "mimeType": "image/png", "buffer": pictures["portrait.png"]}]
    )
    expect(page.locator("#files .name")).to_have_count(1)


def on_phone(visit: Callable[..., Any], pictures: dict[str, bytes]) -> Any:
    """The page on a phone with a picture open, and the focus on the canvas."""
    page = visit(**PHONE)
    page.locator("#models .model").first.wait_for(state="attached")
    opened_hidden(page, pictures)
    page.locator("#canvas").focus()
    return page


def choose(page: Any, name: str) -> None:
    button = page.locator("#files button.pick", has_text=name)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")


def task(page: Any, title: str) -> None:
    page.get_by_role("radio", name=title, exact=True).check()


def unfolded(page: Any, title: str) -> Any:
    """The card of a model, brought out of its fold."""
    card = page.locator("#models .model").filter(
        has=page.locator(".title", has_text=re.compile(f"^{re.escape(title)}$"))
    )
    card.wait_for(state="attached")
    if not card.is_visible():
        page.locator("#models summary", has_text="other").click()
    return card


def model(page: Any, title: str) -> None:
    unfolded(page, title).get_by_role("radio").check()


def previewed(page: Any) -> None:
    """Waits until a preview stands, and no newer one is under way."""
    expect(page.locator("#preview-status")).to_contain_text("Preview of")
    page.wait_for_timeout(400)
    expect(page.locator("#preview-status")).to_contain_text("Preview of")


def restored(page: Any, count: int = 1) -> None:
    """Restores the whole picture and waits for the result to be shown."""
    page.locator("#run").click()
    expect(page.locator("#strip [data-key^=j-]")).to_have_count(count)
    expect(page.locator("#preview-status")).to_contain_text("Result of")


def fingers(page: Any, places: list[list[tuple[float, float]]]) -> None:
    """Touches: where each finger is at every moment, in CSS pixels of the window; a finger that comes later is one more."""
    touch = page.context.new_cdp_session(page)
    down = 0
    for now in places:
        kind = "touchStart" if len(now) > down else "touchMove"
        points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(now)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        down = len(now)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def seen(page: Any) -> np.ndarray:
    """The canvas, `H x W x 3`, when it has come to rest; labels lie over its upper edge."""
    last = None
    for _ in range(40):
        now = np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB"), np.int16)
        if last is not None and (now == last).all():
            return now
        last = now
        page.wait_for_timeout(250)
    raise AssertionError("the canvas does not come to rest")


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def differs(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())
