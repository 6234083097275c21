"""Whatever the OpenAPI description allows, and much that it does not, is answered, never with a server error."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install schemathesis)")

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from restora.studio import catalogue
from restora.studio.app import create_app
from restora.studio.settings import Limits, StudioSettings
from tests.studio.serving import finished, photo_png, upload
from tests.studio.test_api_queue import bicubic_alone


def things(app: Any) -> dict[str, str]:
    """One of everything, so that requests meet more than "there is no such thing": kind -> id."""
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        file = upload(client)
        job = client.post("/api/jobs", json={"files": [file], "model": "bicubic", "controls": {"scale": 2}}).json()[0][
            "id"
        ]
        assert finished(client, job)["state"] == "done"
        mask = client.post("/api/masks", files={"file": ("mask.png", photo_png())}).json()["id"]
        kernel = client.post("/api/kernels", json={"text": "disk:3"}).json()["id"]
    return {"files": file, "jobs": job, "masks": mask, "kernels": kernel}


def meet(case: Any, there: dict[str, str]) -> None:
    """Puts ids that exist where any would do."""
    kind = case.path.split("/")[2]
    if "id" in (case.path_parameters or {}) and kind in there:
        case.path_parameters["id"] = there[kind]
    if isinstance(case.body, dict) and kind in ("previews", "jobs", "downloads"):
        known = {"file": there["files"], "files": [there["files"]], "jobs": [there["jobs"]], "model": "bicubic"}
        case.body.update({name: value for name, value in known.items() if name in case.body})


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_is_a_server_error(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that fit the description, and requests that do not."""
    monkeypatch.setattr(catalogue, "_describe_all", bicubic_alone)
    limits = Limits(requests_a_second=1e6, picture_pixels=1_000_000)
    app = create_app(StudioSettings(tmp_path, limits=limits, allowed_hosts=("testserver",)))
    there = things(app)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/api/events":  # does not end
            continue

        @settings(
            max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
        def check(case: Any) -> None:
            nonlocal asked
            if mode == "positive" and case.method != "DELETE":
                meet(case, there)
            case.call_and_validate(checks=[not_a_server_error])
            asked += 1

        with contextlib.suppress(Unsatisfiable):  # nothing that one could do wrong
            check()
    assert asked > 80
