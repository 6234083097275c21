"""The studio, the browser and the pictures. Where one of them is not installed the tests here skip."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.studio.serving import Server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from tests.studio.serving import Server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "RESTORA_CACHE", str(tmp_path_factory.mktemp("cache"))
        )  # whatever else is installed on this machine
        running = Server(tmp_path_factory.mktemp("studio"))
    running.client.get("/api/models")  # described once
    yield running
    running.interrupt()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    from tests.studio.browser.pages import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def pictures() -> dict[str, bytes]:
    """Of the sizes, depths and kinds that people have."""
    from skimage import data

    from tests.studio.serving import png

    face, cup = data.astronaut(), data.coffee()
    large = Image.fromarray(cup).resize((4000, 3000), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    large.save(out, "JPEG", quality=88)
    noise = np.random.default_rng(0).normal(0, 12 * 257, (240, 320, 3))
    deep = np.clip(cup[:240, :320].astype(np.float64) * 257 + noise, 0, 65535).astype(np.uint16)
    y, x = np.mgrid[:256, :256]
    alpha = np.clip((110 - np.hypot(y - 128, x - 128)) * 8, 0, 255).astype(np.uint8)
    return {
        "twelve_megapixels.jpg": out.getvalue(),
        "sixteen_bit.png": _png16(deep),
        "portrait.png": png(face),
        "transparent.png": png(np.dstack([face[:256, 100:356], alpha])),
        "small.png": png(np.ascontiguousarray(face[60:188, 160:288])),
    }


def _png16(array: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", array[..., ::-1])[1].tobytes()


@pytest.fixture
def clean(server: Server) -> Server:
    """Nothing from the tests before."""
    from tests.studio.serving import until

    client = server.client
    client.post("/api/queue/resume")
    for job in client.get("/api/jobs").json():
        client.post(f"/api/jobs/{job['id']}/cancel")
        until(lambda id=job["id"]: client.get(f"/api/jobs/{id}").json()["state"] in ("done", "failed", "cancelled"))
        client.delete(f"/api/jobs/{job['id']}")
    for file in client.get("/api/files").json():
        client.delete(f"/api/files/{file['id']}")
    return server


@pytest.fixture
def visit(clean: Server, browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page; what the console and uncaught errors say fails the test."""
    from tests.studio.browser.pages import DESKTOP

    contexts, heard = [], []

    def open_page(url: str = clean.url, expected: str = "", **options: Any) -> Any:
        context = browser.new_context(**{**DESKTOP, "accept_downloads": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on(
            "console",
            lambda m: heard.append(m.text) if m.type == "error" and not (expected and expected in m.text) else None,
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not heard


@pytest.fixture
def page(visit: Callable[..., Any]) -> Any:
    page = visit()
    page.locator("#models .model").first.wait_for()
    return page
