"""The studio under load: how long a preview takes, and what 200 concurrent requests of mixed kinds meet.

    python benchmarks/studio.py                       # both
    python benchmarks/studio.py --previews 20 --seconds 0

A server of its own is started. The picture is made from a seed: edges, texture, noise.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import hashlib
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image


def picture(height: int, width: int, seed: int = 0) -> bytes:
    """A synthetic photograph as JPEG."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([128 + 60 * np.sin(x / 37 + c) + 40 * np.cos(y / 23 - c) for c in range(3)], axis=-1)
    for _ in range(60):
        cy, cx, r = rng.random() * height, rng.random() * width, 4 + rng.random() * max(height, width) / 12
        top, left, size = int(max(0, cy - r)), int(max(0, cx - r)), int(2 * r)
        image[top : top + size, left : left + size] = rng.random(3) * 255
    image += rng.normal(0, 6, image.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=92)
    return out.getvalue()


class Server:
    """`restora studio` with a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "restora", "studio", "--no-browser", "--port", "0", "--state", str(folder)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self.url = next(word for word in line.split() if word.startswith("http"))

    @property
    def memory(self) -> float:
        """Resident megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def previews(url: str, number: int, side: int) -> None:
    """Slider moves: previews of one crop with changing controls, after one to load the model."""
    with httpx.Client(base_url=url, timeout=300) as client:
        data = picture(3000, 4000)
        tick = time.perf_counter()
        file = client.post("/api/files", files={"files": ("photo.jpg", data)}).raise_for_status().json()[0]
        print(
            f"Upload and look, 12 megapixels: {time.perf_counter() - tick:.2f} s; sha256 {hashlib.sha256(data).hexdigest()[:12]}\n"
        )
        tasks = {t["name"]: t["model"] for t in client.get("/api/tasks").json()}
        crop = {"x": 1200, "y": 900, "w": side, "h": side}
        print(f"| preview of {side}x{side} | model | first | median of {number} | worst |\n|---|---|---|---|---|")
        for task, moves in (
            ("upscale", [{"scale": 2 + n % 3} for n in range(number)]),
            ("upscale", [{"scale": 4} for _ in range(number)]),
            ("denoise", [{"sigma": 2 + n} for n in range(number)]),
        ):
            times = []
            for controls in [moves[0], *moves]:
                body = {"file": file["id"], "model": tasks[task], "controls": controls, "crop": crop}
                tick = time.perf_counter()
                client.post("/api/previews", json=body).raise_for_status()
                times.append(time.perf_counter() - tick)
            first, *rest = times
            name = task + (" (x2, x3, x4 in turn)" if task == "upscale" and moves[0] != moves[-1] else "")
            print(f"| {name} | {tasks[task]} | {first:.2f} s | {statistics.median(rest):.2f} s | {max(rest):.2f} s |")


async def load(server: Server, seconds: float, clients: int) -> bool:
    """Requests of mixed kinds, `clients` at a time. Returns whether there was nothing but answers and 429."""
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    counts: collections.Counter[tuple[str, int]] = collections.Counter()
    worst: collections.Counter[str] = collections.Counter()
    peak = 0.0
    async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=limits) as client:
        data = [picture(600, 800, n) for n in range(4)]
        files = [
            (await client.post("/api/files", files={"files": (f"{n}.jpg", d)})).json()[0]["id"]
            for n, d in enumerate(data)
        ]
        files.append(
            (await client.post("/api/files", files={"files": ("large.jpg", picture(3000, 4000))})).json()[0]["id"]
        )
        jobs: list[str] = []
        end = time.monotonic() + seconds

        async def ask(kind: str, rng: random.Random, who: str) -> None:
            file = rng.choice(files)
            x, y = rng.randrange(400), rng.randrange(300)
            tick = time.monotonic()
            if kind == "region":
                answer = await client.get(
                    f"/api/files/{file}/image",
                    params={"x": x, "y": y, "w": 256, "h": 256, "max": rng.choice([64, 256])},
                )
            elif kind == "upload":
                answer = await client.post("/api/files", files={"files": ("p.jpg", rng.choice(data))})
            elif kind == "preview":
                body = {"file": file, "model": "fsrcnn_x2.restora", "crop": {"x": x, "y": y, "w": 96, "h": 96}}
                answer = await client.post("/api/previews", json=body, headers={"X-Client": who})
            elif kind == "job":
                answer = await client.post(
                    "/api/jobs", json={"files": [rng.choice(files[:4])], "model": "bicubic", "controls": {"scale": 2}}
                )
                if answer.status_code == 200:
                    jobs.append(answer.json()[0]["id"])
            elif kind == "result" and jobs:
                answer = await client.get(f"/api/jobs/{rng.choice(jobs)}/image", params={"max": 128})
            elif kind == "wrong":
                answer = await client.get("/api/files/f-0000000000000000/image")
            else:
                answer = await client.get(
                    rng.choice(["/api/about", "/api/models", "/api/tasks", "/api/files", "/api/queue"])
                )
            counts[kind, answer.status_code] += 1
            worst[kind] = max(worst[kind], time.monotonic() - tick)  # type: ignore[assignment]

        async def one(number: int) -> None:
            rng = random.Random(number)
            kinds = ["region"] * 8 + ["list"] * 4 + ["preview"] * 2 + ["job", "upload", "result", "result", "wrong"]
            while time.monotonic() < end:
                await ask(rng.choice(kinds), rng, str(number))

        async def watch() -> None:
            nonlocal peak
            while time.monotonic() < end:
                peak = max(peak, server.memory)
                await asyncio.sleep(0.5)

        before = server.memory
        outcomes = await asyncio.gather(*(one(n) for n in range(clients)), watch(), return_exceptions=True)
        broken = [o for o in outcomes if isinstance(o, BaseException)]
    # 409: overtaken by a newer preview; 404 for what is not there, 400 for a result that is not ready
    expected = {"wrong": {404}, "preview": {409}, "result": {400}}
    bad = {key: n for key, n in counts.items() if key[1] not in {200, 429} | expected.get(key[0], set())}
    print(f"\n{clients} concurrent clients for {seconds:g} s, {sum(counts.values())} requests\n")
    print("| kind | answered | told to wait (429) | other | slowest |\n|---|---|---|---|---|")
    for kind in sorted({k for k, _ in counts}):
        others = {s: n for (k, s), n in counts.items() if k == kind and s not in (200, 429)}
        print(f"| {kind} | {counts[kind, 200]} | {counts[kind, 429]} | {others or ''} | {worst[kind]:.1f} s |")
    print(
        f"\nErrors: {bad or 'none'}; broken connections: {len(broken)}; memory {before:.0f} MB before, {peak:.0f} MB at its peak"
    )
    return not bad and not broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--previews", type=int, default=20)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        good = True
        try:
            if arguments.previews:
                previews(server.url, arguments.previews, arguments.side)
            if arguments.seconds:
                good = asyncio.run(load(server, arguments.seconds, arguments.clients))
        finally:
            server.end()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
