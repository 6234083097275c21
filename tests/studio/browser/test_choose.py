"""Choosing a model and setting its controls."""

from __future__ import annotations

from typing import Any

from tests.studio.browser.pages import IN_BROWSER, expect, model, opened, task
from tests.studio.serving import Server

pytestmark = IN_BROWSER


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
