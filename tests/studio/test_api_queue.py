"""The queue: pause, resume, cancel, retry; a restart, and a server that is killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
pytest.importorskip("httpx", reason="httpx, which the test client needs, is not installed")

import httpx
from fastapi.testclient import TestClient

from restora.errors import Cancelled
from restora.studio import catalogue
from restora.studio.app import create_app
from restora.studio.settings import Limits, StudioSettings
from restora.studio.store import write_json
from tests.studio.serving import Server, finished, photo_png, until, upload

HOME = "http://127.0.0.1:7860"


class Slow:
    """A restorer's `__call__` that waits between tiles until it is let on."""

    def __init__(self) -> None:
        self.gate, self.tiles, self.at_gate = threading.Semaphore(0), 0, False

    def __call__(
        self, restorer: Any, picture: Any, *, progress: Any = None, cancelled: Any = None, **controls: Any
    ) -> Any:
        from restora.engine import Progress
        from restora.restorers.base import Restorer

        for tile in range(4):
            if cancelled():
                raise Cancelled("Stopped on request.")
            self.at_gate = True
            self.gate.acquire()
            self.at_gate = False
            self.tiles += 1
            progress(Progress(tile + 1, 4, 1.0))
        return Restorer.__call__(restorer, picture, **controls)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    from restora.studio.steering import Steered

    slow = Slow()
    monkeypatch.setattr(Steered, "__call__", lambda self, *a, **k: slow(self, *a, **k), raising=False)
    return slow


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(StudioSettings(tmp_path / "studio")), base_url=HOME) as client:
        yield client


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model: describing all of them takes seconds, in each new folder."""
    monkeypatch.setattr(catalogue, "_describe_all", bicubic_alone)


def bicubic_alone() -> list[dict[str, Any]]:
    from restora.restorers.upscale import UpscaleControls

    entry = catalogue._entry("bicubic", "Bicubic", "upscale", "", [4])
    return [entry | {"controls": catalogue._base_controls(UpscaleControls, scale=4), "default": True}]


def described(folder: Path) -> Path:
    """The folder with a description for a server in a process of its own."""
    write_json(folder / "models.json", {"key": catalogue._fingerprint(), "models": bicubic_alone()})
    return folder


def queued(client: TestClient, number: int = 1, **request: Any) -> list[str]:
    answer = client.post("/api/jobs", json={"files": [upload(client)] * number, "model": "bicubic", **request})
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()]


def state(client: TestClient, id: str) -> str:
    return client.get(f"/api/jobs/{id}").json()["state"]


def test_a_paused_job_keeps_its_work_and_lets_others_pass(client: TestClient, slow: Slow) -> None:
    first, second = queued(client, 2)
    until(lambda: state(client, first) == "running")
    slow.gate.release()
    until(lambda: client.get(f"/api/jobs/{first}").json()["progress"] == 0.25 and slow.at_gate)
    assert client.post(f"/api/jobs/{first}/pause").json()["state"] == "paused"
    slow.gate.release()  # the tile in hand
    until(lambda: state(client, second) == "running")
    slow.gate.release(4)
    assert finished(client, second)["state"] == "done" and state(client, first) == "paused"
    assert client.post(f"/api/jobs/{first}/resume").json()["state"] == "running"
    slow.gate.release(2)  # only what was left
    assert finished(client, first)["state"] == "done" and slow.tiles == 8


def test_more_paused_jobs_than_are_held_begin_again(client: TestClient, slow: Slow) -> None:
    ids = queued(client, 3)
    for id in ids:
        until(lambda id=id: state(client, id) == "running" and slow.at_gate)
        client.post(f"/api/jobs/{id}/pause")
        before = slow.tiles
        slow.gate.release()  # the tile in hand; then it holds, or is put back, and the next job begins
        until(lambda before=before: slow.tiles > before)
    until(lambda: not any(t.name == f"studio-{ids[2]}" for t in threading.enumerate()))
    assert [state(client, id) for id in ids] == ["paused"] * 3
    slow.gate.release(100)
    for id in ids:
        client.post(f"/api/jobs/{id}/resume")
    assert [finished(client, id)["state"] for id in ids] == ["done"] * 3


def test_a_waiting_job_can_be_paused_and_resumed(client: TestClient) -> None:
    client.post("/api/queue/pause")
    (id,) = queued(client)
    assert client.post(f"/api/jobs/{id}/pause").json()["state"] == "paused"
    client.post("/api/queue/resume")
    assert state(client, id) == "paused"
    client.post(f"/api/jobs/{id}/resume")
    assert finished(client, id)["state"] == "done"


def test_cancel_and_retry(client: TestClient, slow: Slow) -> None:
    running, waiting = queued(client, 2)
    until(lambda: state(client, running) == "running")
    for id in (waiting, running):
        assert client.post(f"/api/jobs/{id}/cancel").json()["state"] == "cancelled"
    slow.gate.release()
    until(lambda: "is still being stopped" not in client.post(f"/api/jobs/{running}/retry").text)
    slow.gate.release(4)
    assert finished(client, running)["state"] == "done" and state(client, waiting) == "cancelled"
    assert client.post(f"/api/jobs/{running}/cancel").status_code == 400
    assert client.post(f"/api/jobs/{running}/retry").status_code == 400


def test_a_removed_job_is_gone_with_its_files(client: TestClient, slow: Slow, tmp_path: Path) -> None:
    running, waiting = queued(client, 2)
    until(lambda: state(client, running) == "running")
    for id in (running, waiting):
        assert client.delete(f"/api/jobs/{id}").status_code == 200
        assert client.get(f"/api/jobs/{id}").status_code == 404
    slow.gate.release(4)
    until(lambda: not list((tmp_path / "studio" / "jobs").iterdir()))


def test_a_paused_queue_begins_nothing_and_says_so(client: TestClient) -> None:
    assert client.post("/api/queue/pause").json()["paused"]
    ids = queued(client, 3)
    assert client.get("/api/queue").json() == {"paused": True, "queued": 3, "running": 0}
    assert [j["position"] for j in client.get("/api/jobs").json()] == [1, 2, 3]
    client.post("/api/queue/resume")
    assert [finished(client, id)["state"] for id in ids] == ["done"] * 3


def test_a_job_does_not_need_its_upload(client: TestClient) -> None:
    client.post("/api/queue/pause")
    (id,) = queued(client)
    file = client.get(f"/api/jobs/{id}").json()["file"]
    client.delete(f"/api/files/{file}")
    client.post("/api/queue/resume")
    assert finished(client, id)["state"] == "done"


def test_limits_of_the_queue(tmp_path: Path) -> None:
    limits = Limits(queued_jobs=3, files_a_job=2, result_pixels=100_000)
    with TestClient(create_app(StudioSettings(tmp_path, limits=limits)), base_url=HOME) as client:
        client.post("/api/queue/pause")
        id = upload(client)
        sizes = [
            client.post("/api/jobs", json={"files": [id] * n, "model": "bicubic"}).status_code for n in (3, 2, 2, 1)
        ]
        assert sizes == [400, 200, 400, 200]
        client.delete(f"/api/jobs/{client.get('/api/jobs').json()[0]['id']}")
        answer = client.post("/api/jobs", json={"files": [id], "model": "bicubic", "controls": {"scale": 8}})
        assert answer.status_code == 400 and "megapixels" in answer.json()["error"]


def test_a_job_that_takes_too_long_fails(tmp_path: Path, slow: Slow) -> None:
    with TestClient(create_app(StudioSettings(tmp_path, limits=Limits(job_seconds=0))), base_url=HOME) as client:
        slow.gate.release(4)
        job = finished(client, queued(client)[0])
        assert job["state"] == "failed" and "longer than" in job["error"]


def test_events_tell_of_jobs(tmp_path: Path) -> None:
    server = Server(described(tmp_path))
    try:
        seen: list[tuple[str, Any]] = []

        def listen() -> None:
            with contextlib.suppress(httpx.ReadError), server.client.stream("GET", "/api/events") as stream:
                kind = ""
                for line in stream.iter_lines():
                    if line.startswith("event: "):
                        kind = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        seen.append((kind, json.loads(line.removeprefix("data: "))))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        server.client.post("/api/queue/pause")  # until the stream is open nothing is sent: ask until it is told
        until(lambda: server.client.post("/api/queue/resume") and seen)
        (id,) = queued(server.client)  # type: ignore[arg-type]
        until(lambda: any(k == "job" and d["state"] == "done" for k, d in seen))
        states = [d["state"] for k, d in seen if k == "job" and d["id"] == id]
        assert states[0] == "queued" and "running" in states and states[-1] == "done"
        server.client.delete(f"/api/jobs/{id}")
        until(lambda: ("removed", {"id": id}) in seen)
    finally:
        assert server.interrupt() == 0
    thread.join(5)


def test_a_restart_takes_the_queue_up_again(tmp_path: Path, slow: Slow) -> None:
    settings = StudioSettings(tmp_path)
    with TestClient(create_app(settings), base_url=HOME) as client:
        ids = queued(client, 3)
        until(lambda: state(client, ids[0]) == "running")
        client.post(f"/api/jobs/{ids[1]}/pause")
        threading.Timer(0.2, slow.gate.release).start()  # the tile in hand, while the server ends
    slow.gate.release(100)
    with TestClient(create_app(settings), base_url=HOME) as client:
        assert finished(client, ids[0])["state"] == "done" and finished(client, ids[2])["state"] == "done"
        assert state(client, ids[1]) == "paused"


def test_a_job_during_which_the_server_keeps_ending_is_given_up(tmp_path: Path) -> None:
    settings = StudioSettings(tmp_path)
    with TestClient(create_app(settings), base_url=HOME) as client:
        client.post("/api/queue/pause")
        (id,) = queued(client)
    place = tmp_path / "jobs" / id / "job.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "state": "running", "attempts": 3}))
    (tmp_path / "jobs" / "j-0000000000000000").mkdir()  # killed while the job was being written
    with TestClient(create_app(settings), base_url=HOME) as client:
        job = client.get(f"/api/jobs/{id}").json()
        assert job["state"] == "failed" and "ended 3 times" in job["error"]
        assert len(client.get("/api/jobs").json()) == 1
        client.post(f"/api/jobs/{id}/retry")
        client.post("/api/queue/resume")
        assert finished(client, id)["state"] == "done"


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_fifty_jobs_survive_a_kill_and_none_is_done_twice(tmp_path: Path) -> None:
    server = Server(described(tmp_path))
    id = upload(server.client, photo_png(120, 120))
    request = {"files": [id] * 50, "model": "bicubic"}
    answer = server.client.post("/api/jobs", json=request)
    assert answer.status_code == 200, answer.text
    ids = [job["id"] for job in answer.json()]

    def done(client: Any) -> list[str]:
        time.sleep(0.05)  # listing fifty jobs costs the server more than doing one
        return [job["id"] for job in client.get("/api/jobs").json() if job["state"] == "done"]

    until(lambda: len(done(server.client)) >= 5)
    server.kill()
    on_disk = {i: json.loads((tmp_path / "jobs" / i / "job.json").read_text())["state"] for i in ids}
    before = {i: (tmp_path / "jobs" / i / "result.png").stat().st_mtime_ns for i in ids if on_disk[i] == "done"}
    assert 5 <= len(before) < 50, "the kill did not fall into the middle"
    assert "running" in on_disk.values()
    server = Server(described(tmp_path))
    try:
        until(lambda: len(done(server.client)) == 50, 120)
        manifests = {i: (tmp_path / "jobs" / i / ".restora.jsonl").read_text().splitlines() for i in ids}
        finishes = {i: sum(json.loads(line)["status"] == "done" for line in lines) for i, lines in manifests.items()}
        assert set(finishes.values()) == {1}
        assert all((tmp_path / "jobs" / i / "result.png").stat().st_mtime_ns == t for i, t in before.items())
        results = {server.client.get(f"/api/jobs/{i}/result").content for i in ids}
        assert len(results) == 1
    finally:
        assert server.interrupt() == 0
