"""Several pictures at a time: in threads, in processes, on a Ray cluster, in shards. The bytes are those of one at a time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import restora
from restora import jobs, networks
from restora.engine import selection, usable_cores
from restora.errors import UsageError
from restora.io import identity, remove_stale
from restora.jobs import cluster, parcel, processes
from restora.jobs.share import Share
from restora.restorers import Chain, Enhancer
from restora.restorers.upscale import Source
from tests.jobs.test_jobs import contents, save

THREADS = 2


def run(folder: Path, output: Path, crew: jobs.Crew | None = None, report: Any = None, **options: Any) -> jobs.Summary:
    restorer = restora.load("fsrcnn_x2", device="cpu", threads=options.pop("threads", THREADS))
    items = jobs.assign(jobs.expand([str(folder)]), output, "_x2", "auto")
    cancelled = options.pop("cancelled", lambda: False)
    shard = options.pop("shard", None)
    return jobs.run_job(restorer, items, jobs.Output(output), {}, report or (lambda *_: None), cancelled, crew, shard)


def one_by_one(folder: Path, output: Path) -> None:
    """Each file in a job of its own."""
    for file, place in jobs.expand([str(folder)]):
        items = jobs.assign([(file, place)], output, "_x2", "auto")
        restorer = restora.load("fsrcnn_x2", device="cpu", threads=1)
        assert jobs.run_job(restorer, items, jobs.Output(output), {}, lambda *_: None).done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(6):
        save(tmp_path / "in" / f"{n}.{'jpg' if n % 2 else 'png'}", 40 + 7 * n, 64 - 5 * n, seed=n)
    return tmp_path / "in"


@pytest.fixture
def expected(folder: Path, tmp_path: Path) -> dict[str, bytes]:
    one_by_one(folder, tmp_path / "one by one")
    return contents(tmp_path / "one by one")


def test_a_share_is_never_exceeded_and_nobody_starves() -> None:
    share = Share(3)
    used, most, order, lock = 0, 0, [], threading.Lock()

    def take(name: str, amount: int) -> None:
        nonlocal used, most
        with share.taken(amount):
            with lock:
                used += min(amount, 3)
                most = max(most, used)
                order.append(name)
            time.sleep(0.01)
            with lock:
                used -= min(amount, 3)

    with share.taken(1):
        threads = []
        for name, amount in [("all", 9), *((f"small{n}", 1) for n in range(6))]:
            threads.append(threading.Thread(target=take, args=(name, amount)))
            threads[-1].start()
            while len(share._queue) < len(threads):
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert most == 3 and order[0] == "all" and len(order) == 7 and share.free == 3


def test_threads_give_the_same_bytes(folder: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    callers = set()

    def report(event: str, data: dict[str, Any]) -> None:
        events.append((event, data))
        callers.add(threading.get_ident())

    before = torch.get_num_threads()
    summary = run(folder, tmp_path / "out", report=report)
    assert contents(tmp_path / "out") == expected
    assert [p.name for p in summary.done] == sorted(expected)
    assert callers == {threading.get_ident()}
    assert torch.get_num_threads() == before
    for n in range(6):  # every file tells its own story, in order
        own = [e for e, d in events if d.get("source", "").startswith(str(folder / f"{n}."))]
        assert own[0] == "file" and own[-2:] == ["writing", "done"] and set(own[1:-2]) == {"progress"}


def test_never_more_busy_threads_than_cores(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.01)
            try:
                return function(*arguments, **options)
            finally:
                with lock:
                    now -= 1

        return call

    kind = restora.restorers.Upscaler
    monkeypatch.setattr(kind, "restore", counted(kind.restore))
    monkeypatch.setattr(restora.Picture, "open", counted(restora.Picture.open))
    monkeypatch.setattr(restora.Picture, "save", counted(restora.Picture.save))
    assert len(run(folder, tmp_path / "out").done) == 6
    assert most == THREADS


def test_a_killed_process_loses_nothing(
    folder: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def recorded(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(original(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(processes.subprocess, "Popen", recorded)
    killed = []

    def report(event: str, _: dict[str, Any]) -> None:
        if event == "file" and not killed:
            killed.append(1)
            started[0].kill()
            started[1].kill()

    summary = run(folder, tmp_path / "out", jobs.Crew(2), report)
    assert not summary.failed and len(summary.done) == 6
    assert len(started) == 4
    assert contents(tmp_path / "out") == expected
    assert all(p.poll() is not None for p in started)


def test_a_file_that_costs_every_process_its_life_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(2):
        save(tmp_path / "in" / f"{n}.png", seed=n)
    monkeypatch.setattr(processes.sys, "executable", "/bin/false")
    summary = run(tmp_path / "in", tmp_path / "out", jobs.Crew(2))
    assert len(summary.failed) == 2 and all("was ended 3 times (status 1)" in e for e in summary.failed.values())


def test_processes_can_be_stopped_and_the_job_goes_on(folder: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    ended = []
    summary = run(
        folder,
        tmp_path / "out",
        jobs.Crew(2),
        lambda event, _: ended.append(event) if event == "done" else None,
        cancelled=lambda: len(ended) >= 1,
    )
    assert summary.cancelled and len(summary.done) >= 1
    made = contents(tmp_path / "out")
    assert {k: expected[k] for k in made} == made
    again = run(folder, tmp_path / "out")
    assert len(again.skipped) == len(made) and contents(tmp_path / "out") == expected


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_processes_end_with_the_program_that_started_them(tmp_path: Path) -> None:
    for n in range(4):
        save(tmp_path / "in" / f"{n}.png", 200, 200, seed=n)
    command = [sys.executable, "-m", "restora", "upscale", str(tmp_path / "in"), "-s", "2", "-t", "16", "--json"]
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path / "out"), "--workers", "2"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    next(line for line in process.stdout if '"progress"' in line)
    children = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/stat") if _parent(p) == process.pid]
    assert len(children) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(_parent(Path(f"/proc/{c}/stat")) for c in children):
        assert time.monotonic() < deadline, "a worker process outlived its job"
        time.sleep(0.05)
    assert len(run(tmp_path / "in", tmp_path / "out").failed) == 0
    assert len(contents(tmp_path / "out")) == 4  # which also sees that nothing half-written is left


def _parent(stat: Path) -> int:
    """The parent of a process, 0 when the process is gone or a zombie."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[1])


def test_shards_share_a_folder(folder: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = [run(folder, out, shard=(n, 4)) for n in (1, 2, 3, 4)]
    assert [len(r.done) for r in runs] == [2, 2, 1, 1]
    manifests = sorted(out.glob(".restora*.jsonl"))
    assert [m.name for m in manifests] == [f".restora.{n}of4.jsonl" for n in (1, 2, 3, 4)]
    whole = run(folder, out)
    assert len(whole.skipped) == 6 and not whole.done
    assert len(run(folder, out, shard=(1, 2)).skipped) == 3
    (out / "0_x2.png").write_bytes(b"edited by its owner")
    assert run(folder, out, shard=(1, 3)).failed and (out / "0_x2.png").read_bytes() == b"edited by its owner"
    for path in manifests:
        path.unlink()
    (out / "0_x2.png").unlink()
    made = contents(out)
    assert made == {k: v for k, v in expected.items() if k != "0_x2.png"}
    with pytest.raises(UsageError, match="3/2"):
        run(folder, out, shard=(3, 2))


def test_half_written_files_of_other_machines_are_left_alone(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    machine = identity().partition("@")[2]
    ours = tmp_path / f".restora-{dead.pid}@{machine}-00.png"
    living = tmp_path / f".restora-{os.getpid()}@{machine}-00.png"
    theirs = tmp_path / f".restora-{dead.pid}@another.host-00.png"
    for path in (ours, living, theirs):
        path.write_bytes(b"half")
    assert remove_stale(tmp_path) == 1 and not ours.exists() and living.exists() and theirs.exists()
    assert remove_stale(tmp_path, [f"{dead.pid}@another.host"]) == 1 and not theirs.exists()


def enhancer() -> Enhancer:
    torch.manual_seed(0)
    net = networks.create("dncnn_color_blind").eval()
    return Enhancer("net.pth", Source("net.pth", "abc", lambda: net))


def test_restorers_travel_with_their_weights(photo: np.ndarray) -> None:
    upscaler = restora.load("fsrcnn")
    cases: list[tuple[Any, dict[str, Any]]] = [
        (upscaler, {"scale": 3}),
        (enhancer(), {"strength": 0.5}),
        (restora.load("bicubic"), {"scale": 1.5}),
        (restora.load("dct"), {"sigma": 10}),
        (restora.load("deconvolve", method="wiener"), {"kernel": "gaussian:1", "sigma": 2}),
        (Chain([("denoise", enhancer()), ("upscale", upscaler)]), {"upscale.scale": 2}),
    ]
    for restorer, controls in cases:
        there, given = parcel.unpack(parcel.pack(restorer, controls), threads=1)
        assert type(there) is type(restorer) and given == controls
        assert there.name == restorer.name and there.fingerprint == restorer.fingerprint
        assert there.settings.threads == 1
        assert np.array_equal(there(photo, **given).array, restorer(photo, **controls).array), restorer.name
    kept = restora.load("deconvolve", method="wiener", keep_steps="steps")
    with pytest.raises(UsageError, match="one process"):
        parcel.pack(kept, {})


def test_workers_run_a_network_as_the_program_that_sent_it_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another machine, or the same one at another moment, would have found faster."""
    monkeypatch.setattr(selection, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(selection, "_DICTATED", {})
    cpu, restorer = torch.device("cpu"), restora.load("fsrcnn_x2", device="cpu")

    def decide(half: bool) -> None:
        selection.remember(restorer.operator(2), cpu, selection.Record({"torch": half}))

    def precision(upscaler: Any) -> str:
        return selection.choose_way(upscaler.operator(2), upscaler.settings, cpu, np.uint8).precision

    decide(True)
    sent = parcel.pack(restorer, {})
    decide(False)
    assert precision(restorer) == "float32"
    there, _ = parcel.unpack(sent, threads=1)
    assert precision(there) == "bf16"


def ray_worker_processes() -> list[int]:
    """Ray's actors of ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::_Hand" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_cluster_that_does_not_answer_is_named_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cluster._look_for(f"127.0.0.1:{port}")
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(UsageError, match="No Ray cluster answers"):
            cluster._look_for(address)
    cluster._look_for("auto")


@pytest.mark.slow
def test_ray_gives_the_same_bytes_though_a_worker_is_killed(
    folder: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    if usable_cores() < 2:
        pytest.skip("two workers need two cores")
    killed: list[int] = []

    def report(event: str, _: dict[str, Any]) -> None:
        if event == "done" and not killed:
            killed.append(ray_worker_processes()[0])
            os.kill(killed[0], 9)

    summary = run(folder, tmp_path / "out", jobs.Crew(2, "ray"), report)
    assert killed and not summary.failed and len(summary.done) == 6
    assert contents(tmp_path / "out") == expected
