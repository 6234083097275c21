"""A client of a running studio: `python examples/client.py photo.jpg photo_x2.png`. Needs httpx; see docs/studio.md."""

import sys
import time

import httpx

studio = httpx.Client(base_url="http://127.0.0.1:7860", timeout=120)
with open(sys.argv[1], "rb") as picture:  # noqa: PTH123
    file = studio.post("/api/files", files={"files": picture}).raise_for_status().json()[0]
request = {"files": [file["id"]], "model": "fsrcnn_x4.restora", "controls": {"scale": 2}, "format": "png"}
job = studio.post("/api/jobs", json=request).raise_for_status().json()[0]
while (job := studio.get(f"/api/jobs/{job['id']}").json())["state"] in ("queued", "running"):
    time.sleep(0.2)
result = studio.get(f"/api/jobs/{job['id']}/result").raise_for_status()
with open(sys.argv[2], "wb") as target:  # noqa: PTH123
    target.write(result.content)
