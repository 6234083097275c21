"""The page in a browser: Debian's Chromium, driven by Playwright, on real pictures and the real server.

Screenshots go to out/studio/ (not in git), on a desktop and a phone size, to be looked at. The accessibility rules of axe-core
are checked where it lies (RESTORA_AXE, or node_modules beside the repository's root).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
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
from skimage import data

from tests.studio.serving import Server, png, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "out" / "studio"
AXE = next(
    (
        p
        for p in (Path(os.environ.get("RESTORA_AXE", "axe.min.js")), ROOT / "node_modules/axe-core/axe.min.js")
        if p.is_file()
    ),
    None,
)

pytestmark = [
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


# the studio, the browser, the pictures


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "RESTORA_CACHE", str(tmp_path_factory.mktemp("cache"))
        )  # whatever else is installed on this machine
        running = Server(tmp_path_factory.mktemp("studio"))
    running.client.get("/api/models")  # described once
    yield running
    running.interrupt()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Of the sizes, depths and kinds that people have."""
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


# open


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


# choose


def test_every_control_of_every_model_has_a_field(page: Any, clean: Server, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    page.locator("label", has_text="Live preview").get_by_role("switch").uncheck()
    tasks = {t["name"]: t["title"] for t in clean.client.get("/api/tasks").json()}
    models = [m for m in clean.client.get("/api/models").json() if m["installed"]]
    assert len(models) > 8
    for wanted in models:
        task(page, tasks[wanted["task"]])
        model(page, wanted["title"])
        card = page.locator("#models .chosen")
        for text in (wanted["advice"], wanted["licence"]):
            expect(card).to_contain_text(text)
        for control in wanted["controls"]:
            field = page.locator(f'#controls [data-control="{control["name"]}"]')
            expect(field).to_have_count(1)
            kinds = {"number": "input[type=number]", "integer": "input[type=number]", "boolean": "[role=switch]", "choice": "select",
                     "kernel": "[role=radiogroup]", "regions": "button"}  # fmt: skip
            assert field.locator(kinds[control["type"]]).count() >= 1, (wanted["name"], control)
            if control["type"] in ("number", "integer") and None not in (control["min"], control["max"]):
                slider = field.locator("input[type=range]")
                assert float(slider.get_attribute("min") or "nan") == control["min"]
                assert float(slider.get_attribute("max") or "nan") == control["max"]


def test_a_number_out_of_range_is_refused_beside_its_field(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png")
    task(page, "Remove noise")
    field = page.locator('#controls [data-control="sigma"]')
    field.locator("input[type=number]").fill("5000")
    field.locator("input[type=number]").blur()
    expect(field.get_by_role("alert")).to_contain_text("from 0 to")


# see


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


# steer


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


# kernels


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


# work


def test_a_job_is_made_shown_copied_and_downloaded(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "portrait.png")
    task(page, "Enlarge")
    model(page, "Bicubic")
    page.locator('#controls [data-control="scale"] input[type=number]').fill("2")
    restored(page)
    shot(page, "desktop_result")
    page.locator("#tab-queue").click()
    job = page.locator("#jobs li").first
    expect(job).to_contain_text("1024 \N{MULTIPLICATION SIGN} 1024")
    job.locator("summary").click()
    expect(job.locator("pre").first).to_contain_text("restora upscale portrait.png")
    expect(job.locator("pre").last).to_contain_text('restora.load("bicubic"')
    job.get_by_role("button", name="Copy the command line").click()
    expect(page.locator("#news")).to_have_text("Copied.")
    shot(page, "desktop_queue")
    with page.expect_download() as download:
        job.get_by_role("link", name="Download").click()
    result = Image.open(download.value.path())
    assert result.size == (1024, 1024)
    page.locator("#tab-restore").click()
    page.locator("#run").click()
    page.locator("#tab-queue").click()
    expect(page.locator("#jobs li[data-state=done]")).to_have_count(2)
    with page.expect_download() as download:
        page.locator("#queue-download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 2


def test_the_queue_is_paused_cancelled_retried_and_survives_a_reload(page: Any, pictures: dict[str, bytes]) -> None:
    opened(page, pictures, "small.png", "portrait.png")
    task(page, "Enlarge")
    model(page, "Bicubic")
    page.locator("#tab-queue").click()
    expect(page.locator("#no-jobs")).to_be_visible()
    page.locator("#tab-restore").click()
    page.locator("#scope").select_option("all")
    page.locator("#run").click()
    page.locator("#tab-queue").click()
    expect(page.locator("#jobs li[data-state=done]")).to_have_count(2)
    # the queue stands still: there is time to look at what waits
    page.locator("#tab-restore").click()
    page.context.request.post(f"{page.url}api/queue/pause")
    expect(page.locator("#queue-status")).to_contain_text("paused")
    page.locator("#run").click()
    page.locator("#tab-queue").click()
    expect(page.locator("#jobs li[data-state=queued]")).to_have_count(2)
    page.locator("#jobs li[data-state=queued]").first.get_by_role("button", name="Cancel").click()
    expect(page.locator("#jobs li[data-state=cancelled]")).to_have_count(1)
    page.reload()
    expect(page.locator("#jobs li")).to_have_count(4)
    expect(page.locator("#queue-badge")).to_have_text("1")
    expect(page.locator("#files li")).to_have_count(2)
    page.locator("#jobs li[data-state=cancelled]").get_by_role("button", name="Retry").click()
    expect(page.locator("#jobs li[data-state=queued]")).to_have_count(2)
    page.locator("#jobs li[data-state=queued]").first.get_by_role("button", name="Pause").click()
    expect(page.locator("#jobs li[data-state=paused]")).to_have_count(1)
    page.get_by_role("button", name="Resume the queue").click()
    expect(page.locator("#jobs li[data-state=done]")).to_have_count(3)
    page.locator("#jobs li[data-state=paused]").get_by_role("button", name="Resume").click()
    expect(page.locator("#jobs li[data-state=done]")).to_have_count(4)
    page.locator("#jobs li").first.get_by_role("button", name="Remove").click()
    expect(page.locator("#jobs li")).to_have_count(3)


def test_a_lost_connection_is_said_and_mended(visit: Callable[..., Any]) -> None:
    page = visit(expected="ERR_FAILED")
    page.route("**/api/events", lambda route: route.abort())
    page.reload()
    expect(page.locator("#lost")).to_be_visible()
    page.unroute("**/api/events")
    expect(page.locator("#lost")).to_be_hidden()


# trust


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


# everybody


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


def opened_hidden(page: Any, pictures: dict[str, bytes]) -> None:
    """Opens a picture where the list of pictures may not be in view."""
    page.locator("#file-input").set_input_files(
        [{"name": "portrait.png", "mimeType": "image/png", "buffer": pictures["portrait.png"]}]
    )
    expect(page.locator("#files .name")).to_have_count(1)


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
