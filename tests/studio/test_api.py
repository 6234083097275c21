"""The REST interface of the studio, each route once on what it is for."""

from __future__ import annotations

import base64
import io
import json
import shlex
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
pytest.importorskip("httpx", reason="httpx, which the test client needs, is not installed")

from fastapi.testclient import TestClient

from restora.studio.app import create_app
from restora.studio.settings import StudioSettings
from tests.conftest import make_photo
from tests.studio.serving import arrays, finished, photo_png, png, until, upload

HOME = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A studio for the whole file: its first use describes all models, which takes a while."""
    with TestClient(create_app(StudioSettings(tmp_path_factory.mktemp("studio"))), base_url=HOME) as client:
        yield client


def job_of(client: TestClient, **request: Any) -> dict[str, Any]:
    answer = client.post("/api/jobs", json={"model": "bicubic", **request})
    assert answer.status_code == 200, answer.text
    return finished(client, answer.json()[0]["id"])


# what there is


def test_about_says_what_the_server_is(client: TestClient) -> None:
    about = client.get("/api/about").json()
    assert about["token_needed"] is False and about["cores"] >= 1
    assert ".png" in about["formats_written"] and about["limits"]["preview_pixels"] > 512 * 512


def test_every_task_has_a_default_that_is_listed(client: TestClient) -> None:
    models = {m["name"]: m for m in client.get("/api/models").json()}
    tasks = {t["name"]: t for t in client.get("/api/tasks").json()}
    assert list(tasks) == ["upscale", "denoise", "deblur", "dejpeg", "deconvolve"]
    for task in tasks.values():
        assert task["model"] is None or models[task["model"]]["task"] == task["name"]
    assert tasks["upscale"]["model"] == "upscale" and tasks["denoise"]["model"]
    assert [m["name"] for m in models.values() if m["task"] == "upscale" and m["default"]] == ["upscale"]
    assert tasks["deconvolve"]["model"] == "auto"
    assert models["upscale"]["scales"] == [2, 3, 4] and "span_x4 for x4" in models["upscale"]["advice"]


def test_models_describe_their_controls(client: TestClient) -> None:
    denoisers = client.get("/api/models", params={"task": "denoise"}).json()
    sigma = next(c for m in denoisers if m["name"] == "dct" for c in m["controls"] if c["name"] == "sigma")
    assert (sigma["type"], sigma["min"], sigma["max"], sigma["auto"], sigma["default"]) == (
        "number",
        0,
        255,
        True,
        "auto",
    )
    wiener = next(m for m in client.get("/api/models").json() if m["name"] == "wiener")
    kernel = next(c for c in wiener["controls"] if c["name"] == "kernel")
    assert kernel["required"] and kernel["type"] == "kernel" and wiener["needs_kernel"]


def test_no_control_names_a_file_or_another_model(client: TestClient) -> None:
    names = {c["name"] for m in client.get("/api/models").json() for c in m["controls"]}
    assert not names & {"network", "enhancer", "options", "method", "keep_steps"}


# pictures


def test_an_upload_is_described_and_looked_at(client: TestClient) -> None:
    noisy = make_photo(200, 300) + np.random.default_rng(0).normal(0, 15, (200, 300, 3))
    data = png(np.clip(noisy, 0, 255).astype(np.uint8))
    shown = client.post("/api/files", files={"files": ("my holiday.png", data)}).json()[0]
    assert (shown["name"], shown["format"], shown["width"], shown["height"]) == ("my holiday.png", "png", 300, 200)
    assert (shown["bit_depth"], shown["channels"], shown["alpha"], shown["bytes"]) == (8, 3, False, len(data))
    assert (
        11 < shown["look"]["noise"] < 19 and shown["look"]["task"] == "denoise" and "noise" in shown["look"]["advice"]
    )


def test_depth_alpha_and_profile_are_told(client: TestClient) -> None:
    rgba = np.dstack([make_photo(40, 50), np.tile(np.arange(50, dtype=np.uint8) * 5, (40, 1))])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    shown = client.get(f"/api/files/{upload(client, png(rgba, icc_profile=profile))}").json()
    assert shown["alpha"] and "sRGB" in shown["profile"]
    deep = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    shown = client.get(f"/api/files/{upload(client, png(deep))}").json()
    assert (shown["bit_depth"], shown["channels"]) == (16, 1)


def test_several_files_at_once_and_their_list(client: TestClient) -> None:
    given = [("files", (f"{n}.png", photo_png(seed=n))) for n in range(3)]
    ids = [f["id"] for f in client.post("/api/files", files=given).json()]
    listed = [f["id"] for f in client.get("/api/files").json()]
    assert [i for i in listed if i in ids] == ids


def test_a_region_shows_the_pixels_themselves(client: TestClient) -> None:
    photo = make_photo(60, 84)
    answer = client.get(f"/api/files/{upload(client)}/image", params={"x": 10, "y": 20, "w": 30, "h": 25})
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(arrays(answer.content), photo[20:45, 10:40])


def test_a_reduced_view_is_as_large_as_asked(client: TestClient) -> None:
    id = upload(client, photo_png(400, 600))
    view = arrays(client.get(f"/api/files/{id}/image", params={"max": 300}).content)
    assert view.shape == (200, 300, 3)
    # a picture of that length is shown from a reduced copy: at the same place
    large = np.hstack([make_photo(200, 550, seed).repeat(2, axis=1) for seed in range(4)])
    id = upload(client, png(large))
    view = arrays(
        client.get(f"/api/files/{id}/image", params={"x": 2200, "y": 0, "w": 2200, "h": 200, "max": 550}).content
    )
    mean = large[:, 2200:].reshape(50, 4, 550, 4, 3).mean(axis=(1, 3))
    assert view.shape == (50, 550, 3) and np.abs(view - mean).mean() < 6


def test_a_region_keeps_transparency_and_16_bits_are_rounded(client: TestClient) -> None:
    rgba = np.dstack([make_photo(40, 50), np.tile(np.arange(50, dtype=np.uint8) * 5, (40, 1))])
    assert np.array_equal(arrays(client.get(f"/api/files/{upload(client, png(rgba))}/image").content), rgba)
    deep = (np.arange(4096, dtype=np.uint16) * 16).reshape(64, 64)
    view = arrays(client.get(f"/api/files/{upload(client, png(deep))}/image").content)
    assert np.abs(view[..., 0].astype(float) * 257 - deep).max() <= 129


def test_the_original_comes_back_unchanged_under_its_name(client: TestClient) -> None:
    data = photo_png()
    answer = client.get(f"/api/files/{upload(client, data, 'Äpfel & Birnen.png')}/original")
    assert answer.content == data
    assert (
        "attachment" in answer.headers["content-disposition"] and "%C3%84pfel" in answer.headers["content-disposition"]
    )


def test_a_removed_picture_is_gone(client: TestClient) -> None:
    id = upload(client)
    assert client.delete(f"/api/files/{id}").json() == {"done": True}
    assert client.get(f"/api/files/{id}").status_code == 404
    assert client.get(f"/api/files/{id}/image").status_code == 404


# previews


def preview(client: TestClient, **request: Any) -> tuple[np.ndarray, Any]:
    answer = client.post("/api/previews", json={"model": "bicubic", **request})
    assert answer.status_code == 200, answer.text
    return arrays(answer.content), answer


def test_a_preview_is_the_part_of_the_whole_result(client: TestClient) -> None:
    """Also at its border: the margin around the crop is restored with it."""
    id = upload(client, photo_png(150, 180))
    part, answer = preview(client, file=id, model="fsrcnn_x2.restora", crop={"x": 50, "y": 40, "w": 64, "h": 48})
    assert float(answer.headers["x-seconds"]) > 0 and json.loads(answer.headers["x-notes"]) == []
    job = job_of(client, files=[id], model="fsrcnn_x2.restora")
    whole = arrays(client.get(f"/api/jobs/{job['id']}/result").content)
    assert part.shape == (96, 128, 3)
    assert np.abs(part.astype(int) - whole[80:176, 100:228]).max() <= 1


def test_a_preview_with_a_control_changes_with_it(client: TestClient) -> None:
    id = upload(client)
    weak, _ = preview(client, file=id, model="dct", controls={"sigma": 1})
    strong, _ = preview(client, file=id, model="dct", controls={"sigma": 60})
    given = make_photo(60, 84).astype(int)
    assert np.abs(weak - given).mean() < np.abs(strong - given).mean() / 3
    _, answer = preview(client, file=id, model="dct")
    assert "Noise level estimated" in answer.headers["x-notes"]


def test_blend_and_mask_restrict_the_result(client: TestClient) -> None:
    id, given = upload(client), make_photo(60, 84)
    whole, _ = preview(client, file=id, model="dct", controls={"sigma": 60})
    none, _ = preview(client, file=id, model="dct", controls={"sigma": 60}, blend=0)
    half, _ = preview(client, file=id, model="dct", controls={"sigma": 60}, blend=0.5)
    assert np.array_equal(none, given) and np.abs(half - (given / 2 + whole / 2)).max() <= 1
    plane = np.zeros((30, 42), np.uint8)
    plane[:, 21:] = 255
    mask = client.post("/api/masks", files={"file": ("mask.png", png(plane))}).json()
    assert (mask["width"], mask["height"]) == (42, 30)
    crop = {"x": 10, "y": 0, "w": 70, "h": 60}
    part, _ = preview(client, file=id, model="dct", controls={"sigma": 60}, mask=mask["id"], crop=crop)
    assert (
        np.array_equal(part[:, :28], given[:, 10:38]) and np.abs(part[:, 36:].astype(int) - whole[:, 46:80]).max() <= 3
    )
    assert np.array_equal(arrays(client.get(f"/api/masks/{mask['id']}/image").content), plane)


def test_what_cannot_be_previewed_is_said(client: TestClient) -> None:
    id = upload(client, photo_png(1100, 1100))
    for request, status, word in (
        ({"crop": {"x": 0, "y": 0, "w": 1100, "h": 1100}}, 413, "at most"),
        ({"crop": {"x": 2000, "y": 0, "w": 10, "h": 10}}, 400, "outside"),
        ({"model": "nothing"}, 404, "no model"),
        ({"controls": {"sigma": 5}}, 400, "no control"),
        ({"controls": {"scale": 99}}, 400, "between"),
        ({"model": "wiener"}, 400, "kernel"),
        ({"model": "wiener", "controls": {"kernel": "estimate"}}, 400, "whole picture"),
        ({"mask": "m-0123456789abcdef"}, 404, "no such mask"),
    ):
        answer = client.post("/api/previews", json={"file": id, "model": "bicubic", **request})
        assert answer.status_code == status and word in answer.json()["error"], (request, answer.text)


# jobs and results


def test_a_job_restores_and_its_result_says_with_what(client: TestClient) -> None:
    id = upload(client, png(make_photo(60, 84), "JPEG", quality=90), "old.jpg")
    job = job_of(client, files=[id], model="fsrcnn_x2.restora", format="png")
    assert job["state"] == "done" and job["progress"] == 1 and job["error"] == ""
    assert (job["result"]["width"], job["result"]["height"], job["result"]["format"]) == (168, 120, "png")
    answer = client.get(f"/api/jobs/{job['id']}/result")
    assert len(answer.content) == job["result"]["bytes"] and "old_x2.png" in answer.headers["content-disposition"]
    assert Image.open(io.BytesIO(answer.content)).getexif()[305].startswith("Restora")
    assert "fsrcnn_x2" in Image.open(io.BytesIO(answer.content)).getexif()[305]
    assert job["report"]["output_size"] == [120, 168]


def test_the_python_lines_and_the_command_make_the_same_picture(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = upload(client, photo_png(), "a b.png")
    job = job_of(client, files=[id], model="fsrcnn_x2.restora", controls={"scale": 3})
    made = arrays(client.get(f"/api/jobs/{job['id']}/result").content)
    monkeypatch.chdir(tmp_path)
    Path("a b.png").write_bytes(photo_png())
    exec(compile(job["python"], "lines", "exec"), {})
    assert np.array_equal(arrays(Path("a b_x3.png").read_bytes()), made)
    Path("a b_x3.png").unlink()
    from typer.testing import CliRunner

    from restora.cli import make_app

    words = shlex.split(job["command"])
    assert words[:2] == ["restora", "upscale"]
    done = CliRunner().invoke(make_app(), words[1:])
    assert done.exit_code == 0, done.output
    assert np.array_equal(arrays(Path("a b_x3.png").read_bytes()), made)


def test_variants_become_jobs_of_their_own(client: TestClient) -> None:
    request = {"files": [upload(client)], "model": "dct", "variants": [{"controls": {"sigma": s}} for s in (2, 30)]}
    jobs = client.post("/api/jobs", json=request).json()
    assert [j["controls"]["sigma"] for j in jobs] == [2, 30]
    results = [arrays(client.get(f"/api/jobs/{finished(client, j['id'])['id']}/result").content) for j in jobs]
    assert np.abs(results[0].astype(int) - results[1]).mean() > 0.5


def test_a_masked_job_changes_only_what_is_masked(client: TestClient) -> None:
    id, given = upload(client), make_photo(60, 84)
    plane = np.zeros((60, 84), np.uint8)
    plane[:, 42:] = 255
    mask = client.post("/api/masks", files={"file": ("mask.png", png(plane))}).json()["id"]
    job = job_of(client, files=[id], model="dct", controls={"sigma": 40}, mask=mask)
    made = arrays(client.get(f"/api/jobs/{job['id']}/result").content)
    assert np.array_equal(made[:, :42], given[:, :42]) and not np.array_equal(made[:, 42:], given[:, 42:])
    assert job["command"] == "" and "Steered(" in job["python"] and f"mask_{mask[2:]}.png" in job["python"]


def test_views_of_a_result_and_its_difference(client: TestClient) -> None:
    job = job_of(client, files=[upload(client)], controls={"scale": 2})
    view = arrays(client.get(f"/api/jobs/{job['id']}/image", params={"x": 100, "y": 50, "w": 40, "h": 30}).content)
    whole = arrays(client.get(f"/api/jobs/{job['id']}/result").content)
    assert np.array_equal(view, whole[50:80, 100:140])
    # a bicubic enlargement differs from its input, enlarged by another bicubic, by next to nothing
    difference = arrays(client.get(f"/api/jobs/{job['id']}/difference", params={"gain": 1}).content)
    assert difference.shape == (120, 168, 3) and np.abs(difference.astype(int) - 128).mean() < 2
    same = job_of(client, files=[upload(client)], model="dct", controls={"sigma": 50})
    difference = arrays(client.get(f"/api/jobs/{same['id']}/difference", params={"gain": 1}).content)
    made = arrays(client.get(f"/api/jobs/{same['id']}/result").content).astype(int)
    assert np.array_equal(difference, np.clip(128 + made - make_photo(60, 84), 0, 255))


def test_results_come_in_one_archive_under_different_names(client: TestClient) -> None:
    jobs = [job_of(client, files=[upload(client, photo_png(seed=n))], controls={"scale": 2}) for n in (1, 2)]
    answer = client.post("/api/downloads", json={"jobs": [j["id"] for j in jobs]})
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None and archive.namelist() == ["photo_x2.png", "photo_x2_2.png"]
    assert archive.read("photo_x2.png") == client.get(f"/api/jobs/{jobs[0]['id']}/result").content


def test_a_job_that_cannot_be_is_refused_before_it_is_queued(client: TestClient) -> None:
    id, before = upload(client), len(client.get("/api/jobs").json())
    for request, status, word in (
        ({"format": "exe"}, 400, "cannot be written"),
        ({"model": "nothing"}, 404, "no model"),
        ({"controls": {"scale": 0.1}}, 400, "between"),
        ({"files": ["f-0123456789abcdef"]}, 404, "no such picture"),
        ({"files": []}, 422, "files"),
        ({"blend": 2}, 422, "blend"),
        ({"unknown": 1}, 422, "unknown"),
        ({"model": "wiener", "controls": {"kernel": "gaussian:1e9"}}, 400, "kernel"),
    ):
        answer = client.post("/api/jobs", json={"files": [id], "model": "bicubic", **request})
        assert answer.status_code == status and word in answer.json()["error"], (request, answer.text)
    assert len(client.get("/api/jobs").json()) == before


def test_a_job_that_fails_says_why_without_a_path(client: TestClient) -> None:
    # a kernel larger than the picture is only found out when both meet
    job = job_of(
        client,
        files=[upload(client, photo_png(20, 20))],
        model="wiener",
        controls={"kernel": "motion:99:0", "check": False},
    )
    assert (
        job["state"] == "failed"
        and "larger than the picture" in job["error"]
        and "/" not in job["error"].replace("20x20", "")
    )
    assert client.get(f"/api/jobs/{job['id']}/result").status_code == 400


# trust


def test_trust_tells_what_an_enlargement_confirms(client: TestClient) -> None:
    id = upload(client, photo_png(220, 220))
    job = job_of(client, files=[id], controls={"scale": 2})
    trust = client.get(f"/api/jobs/{job['id']}/trust").json()
    assert trust["consistency"]["psnr"] > 35 and "reduced by 2" in trust["consistency"]["model"]
    assert trust["colour_drift"]["delta_e"] < 0.5 and 0 <= trust["invented"] < 0.2
    assert all(value is not None for scores in (trust["before"], trust["after"]) for value in scores.values())
    assert arrays(client.get(trust["map"]).content).shape == (440, 440, 3)
    assert client.get(f"/api/jobs/{job['id']}/trust").json() == trust


def test_trust_notices_a_result_that_contradicts_its_input(client: TestClient) -> None:
    """Strong denoising of a clean picture takes structure away: more of it than a weak one."""
    id = upload(client, photo_png(220, 220))
    weak, strong = (job_of(client, files=[id], model="dct", controls={"sigma": s}) for s in (2, 90))
    told = [client.get(f"/api/jobs/{j['id']}/trust").json() for j in (weak, strong)]
    assert told[0]["consistency"]["psnr"] > told[1]["consistency"]["psnr"] + 5
    assert told[0]["invented"] < told[1]["invented"] and told[0]["after"]["noise"] > told[1]["after"]["noise"]


# kernels


def test_kernels_from_words_numbers_a_drawing_and_a_motion(client: TestClient) -> None:
    drawing = np.zeros((31, 31), np.uint8)
    drawing[15, 10:21] = 255
    cases = {
        "gaussian": {"text": "gaussian:1.6"},
        "rows": {"text": "0 1 0\n1 2 1\n0 1 0"},
        "drawn": {"drawing": "data:image/png;base64," + base64.b64encode(png(drawing)).decode()},
        "motion": {"motion": {"dx": 0, "dy": 8}},
    }
    made = {name: client.post("/api/kernels", json=case) for name, case in cases.items()}
    shown = {name: answer.json() for name, answer in made.items()}
    assert shown["rows"]["size"] == "3x3" and shown["drawn"]["size"] == "1x11"
    height, width = map(int, shown["motion"]["size"].split("x"))
    assert height >= 8 and width <= 3  # downwards on the picture
    for kernel in shown.values():
        view = arrays(client.get(f"/api/kernels/{kernel['id']}/image").content)
        assert view.max() == 255
        weights = np.load(io.BytesIO(client.get(f"/api/kernels/{kernel['id']}/file").content))
        assert abs(weights.sum() - 1) < 1e-5
    id = upload(client, photo_png(100, 100))
    part, _ = preview(
        client, file=id, model="wiener", controls={"kernel": shown["drawn"]["id"], "check": False, "sigma": 2}
    )
    assert part.shape == (100, 100, 3) and not np.array_equal(part, make_photo(100, 100))


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"text": "gaussian:1", "motion": {"dx": 1, "dy": 1}},
        {"text": "1 2\n3"},
        {"drawing": "%%%"},
        {"text": "0 0\n0 0"},
    ],
)
def test_what_is_no_kernel_is_refused(client: TestClient, request_: dict[str, Any]) -> None:
    answer = client.post("/api/kernels", json=request_)
    assert answer.status_code == 400 and answer.json()["error"].endswith(".")


# descriptions


def test_the_reference_page_names_every_route_and_loads_nothing(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    page = client.get("/api/docs").text
    assert all(path in page for path in document["paths"]) and len(document["paths"]) > 25
    assert "<script" not in page and "http://" not in page and "https://" not in page


def test_an_unknown_address_is_an_error_in_words(client: TestClient) -> None:
    answer = client.get("/api/nothing")
    assert answer.status_code == 404 and answer.json()["error"].endswith(".")
    assert client.put("/api/jobs").status_code == 405


def test_a_newer_preview_takes_the_place_of_an_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from restora.errors import Cancelled
    from restora.studio.catalogue import Catalogue
    from restora.studio.preview import Busy, Previewer
    from restora.studio.settings import Limits
    from restora.studio.store import Store

    limits = Limits(waiting_previews=2)
    previewer = Previewer(Store(tmp_path, limits), Catalogue(tmp_path), limits)
    monkeypatch.setattr(previewer, "_restored", lambda request, dropped: (request, 0.0, []))
    ended: dict[str, Any] = {}

    def ask(client: str, name: str) -> threading.Thread:
        def run() -> None:
            try:
                ended[name] = previewer.make(client, name)[0]
            except (Cancelled, Busy) as error:
                ended[name] = type(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    previewer._turn.acquire()  # somebody's preview is being made
    old = ask("page", "old")
    until(lambda: previewer._waiting == 1)
    new = ask("page", "new")
    old.join(10)
    assert ended == {"old": Cancelled}
    until(lambda: previewer._waiting == 1)
    other = ask("other page", "other")
    until(lambda: previewer._waiting == 2)
    ask("third page", "third").join(10)
    assert ended["third"] is Busy
    previewer._turn.release()
    new.join(10)
    other.join(10)
    assert ended["new"] == "new" and ended["other"] == "other"
