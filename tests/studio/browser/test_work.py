"""Jobs and the queue."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from typing import Any

from PIL import Image

from tests.studio.browser.pages import IN_BROWSER, expect, model, opened, restored, shot, task

pytestmark = IN_BROWSER


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
