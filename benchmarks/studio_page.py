"""How long a slider's move takes to become a new picture on the page: in a browser, everything between included.

    python benchmarks/studio_page.py [--runs 20]

Prints a markdown table: median and worst of the time from the move to the preview being there (the page's pause of 120 ms before it
asks included), for a crop of 512 x 512 pixels, with the default denoiser and upscaler. Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

SIDE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "restora", "studio", "--no-browser", "--port", "0", "--state", state]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            url = next(
                word
                for line in server.stderr
                if "studio: http" in line
                for word in line.split()
                if word.startswith("http")
            )
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                page.goto(url)
                print("| task | crop | runs | median s | worst s |\n|---|---|---|---|---|")
                page.locator("#models .model").first.wait_for(timeout=300_000)
                page.locator("#file-input").set_input_files(
                    {"name": "p.png", "mimeType": "image/png", "buffer": picture()}
                )
                for task, control in (("Remove noise", "sigma"), ("Enlarge", None)):
                    page.get_by_role("radio", name=task, exact=True).check()
                    times, crops = measured(page, control, arguments.runs)
                    print(f"| {task} | {crops} | {len(times)} | {statistics.median(times):.2f} | {max(times):.2f} |")
                browser.close()
        finally:
            server.terminate()
            server.wait()


def picture() -> bytes:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    plane = 128 + 60 * np.sin(x / 9) * np.cos(y / 13)
    out = io.BytesIO()
    Image.fromarray(np.clip(plane[..., None] + rng.normal(0, 15, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)).save(
        out, "PNG"
    )
    return out.getvalue()


def measured(page, control: str | None, runs: int) -> tuple[list[float], str]:
    """Seconds from each move to the answer; the first two, which load the model, do not count."""
    slider = page.locator(f'#controls [data-control="{control}"] input[type=range]' if control else "#blend")
    times, crops = [], set()
    page.wait_for_timeout(3000)
    for number in range(runs + 2):
        with page.expect_response("**/api/previews", timeout=120_000) as answer:
            start = time.perf_counter()
            slider.fill(str(10 + number % 30))
        answer.value.finished()
        if number > 1:
            times.append(time.perf_counter() - start)
        crop = answer.value.request.post_data_json["crop"]
        crops.add(f"{crop['w']}x{crop['h']}")
    return times, ", ".join(sorted(crops))


if __name__ == "__main__":
    main()
