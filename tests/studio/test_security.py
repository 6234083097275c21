"""What a studio refuses: other sites, other hosts, missing tokens, floods, bombs, paths."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
pytest.importorskip("httpx", reason="httpx, which the test client needs, is not installed")

from fastapi.testclient import TestClient

from restora.errors import UsageError
from restora.studio import catalogue
from restora.studio.app import create_app
from restora.studio.guard import Rates
from restora.studio.server import AlreadyRunning, _alone, _leave, listen
from restora.studio.settings import Limits, StudioSettings, settle
from tests.conftest import make_photo
from tests.studio.serving import Server, photo_png, png, until, upload

HOME = "http://127.0.0.1:7860"
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(create_app(StudioSettings(tmp_path_factory.mktemp("studio"))), base_url=HOME) as client:
        yield client


def open_studio(folder: Path, **settings: Any) -> TestClient:
    return TestClient(create_app(StudioSettings(folder, **settings)), base_url=settings.pop("home", HOME))


def said(answer: Any) -> str:
    """The sentence of a refusal: one, and without a path of this machine."""
    sentence = answer.json()["error"]
    assert (
        sentence.endswith((".", "?"))
        and "\n" not in sentence
        and "/tmp" not in sentence
        and "Traceback" not in sentence
    )
    return sentence


# who may ask


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "localhost.evil.example", "10.0.0.1", "", "a@localhost", "[::1"]
)
def test_a_name_that_is_not_this_servers_is_refused(client: TestClient, host: str) -> None:
    """DNS rebinding: a foreign name that was made to resolve to this machine."""
    answer = client.get("/api/files", headers={"Host": host})
    assert answer.status_code == 400 and "host name" in said(answer)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:1"])
def test_this_machine_has_several_names(client: TestClient, host: str) -> None:
    assert client.get("/api/about", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8080"},
        {"Origin": "http://127.0.0.1:7860.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/api/queue/pause", headers=headers).status_code == 403
    form = client.post("/api/files", files={"files": ("a.png", photo_png())}, headers=headers)
    assert form.status_code == 403 and "another site" in said(form)
    assert client.get("/api/queue").json()["paused"] is False


def test_the_own_page_may_and_a_link_from_elsewhere_may_open_it(client: TestClient) -> None:
    own = {"Origin": HOME, "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/queue/resume", headers=own).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/api/files", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_every_answer_forbids_what_pages_need_not_do(client: TestClient) -> None:
    for path in ("/", "/api/about", "/api/docs", "/api/nothing"):
        headers = client.get(path).headers
        assert (
            "default-src 'self'" in headers["content-security-policy"]
            and headers["x-content-type-options"] == "nosniff"
        )
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_a_token_is_needed_everywhere(tmp_path: Path) -> None:
    app = create_app(StudioSettings(tmp_path, token=TOKEN))
    with TestClient(app, base_url=HOME) as client:
        for path in ("/", "/api/about", "/api/files", "/api/docs", "/api/openapi.json", f"/api/about?token={TOKEN}"):
            assert client.get(path).status_code == 401, path
        assert client.post("/api/files", files={"files": ("a.png", photo_png())}).status_code == 401
        for wrong in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ÿ".encode("latin-1")):
            assert client.get("/api/about", headers={"Authorization": wrong}).status_code == 401
        assert client.get("/api/about", headers={"Authorization": f"Bearer {TOKEN}"}).json()["token_needed"] is True
        assert client.get("/?token=wrong-wrong-wrong").status_code == 401
    # the printed address: the token goes into a cookie and out of the address
    with TestClient(app, base_url=HOME) as client:
        answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=Strict" in answer.headers["set-cookie"]
        assert client.get("/api/about").status_code == 200


def test_a_host_that_others_reach_gets_a_token_and_tighter_limits(tmp_path: Path) -> None:
    alone, reachable = settle(tmp_path), settle(tmp_path, host="0.0.0.0")
    assert alone.token is None and reachable.token is not None and len(reachable.token) >= 24
    assert settle(tmp_path, host="0.0.0.0").token != reachable.token
    assert reachable.limits.upload_bytes < alone.limits.upload_bytes and reachable.limits.job_seconds
    for wrong in ("short", "with space in it", "semicolon;in;it;here"):
        with pytest.raises(UsageError, match="token"):
            settle(tmp_path, token=wrong)
    with pytest.raises(UsageError, match="does not exist"):
        settle(tmp_path, share_folder=tmp_path / "none")


def test_an_office_calls_the_server_by_address_or_given_name(tmp_path: Path) -> None:
    app = create_app(StudioSettings(tmp_path, host="0.0.0.0", token=TOKEN, allowed_hosts=("pictures.office",)))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url=HOME) as client:
        for host, status in (("192.168.1.5:7860", 200), ("pictures.office", 200), ("evil.example", 400)):
            assert client.get("/api/about", headers={**headers, "Host": host}).status_code == status


# how much and how often


def test_a_flood_is_told_to_wait(tmp_path: Path) -> None:
    with open_studio(tmp_path, limits=Limits(requests_a_second=5)) as client:
        answers = [client.get("/api/about") for _ in range(40)]
        codes = [a.status_code for a in answers]
        assert codes[:20] == [200] * 20 and 429 in codes and set(codes) == {200, 429}
        assert int(answers[codes.index(429)].headers["retry-after"]) >= 1 and "wait" in said(answers[codes.index(429)])


def test_a_bucket_fills_again_and_clients_have_their_own() -> None:
    now = [0.0]
    rates = Rates(10, clock=lambda: now[0])
    assert [rates.wait("a") for _ in range(40)] == [0] * 40
    assert rates.wait("a") == pytest.approx(0.1) and rates.wait("b") == 0
    now[0] += 0.2
    assert [rates.wait("a") == 0 for _ in range(3)] == [True, True, False]


def test_an_upload_beyond_the_limit_is_refused_by_its_header_and_by_its_bytes(tmp_path: Path) -> None:
    with open_studio(tmp_path, limits=Limits(upload_bytes=10_000)) as client:
        large = png(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8))
        answer = client.post("/api/files", files={"files": ("a.png", large)})
        assert answer.status_code == 413 and "larger than" in said(answer)

        def pieces() -> Iterator[bytes]:  # no Content-Length
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            for start in range(0, len(large), 1000):
                yield large[start : start + 1000]
            yield b"\r\n--x--\r\n"

        answer = client.post(
            "/api/files", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert answer.status_code == 413 and "larger than" in said(answer)
        assert client.get("/api/files").json() == [] and not list((tmp_path / "files").iterdir())


def test_a_full_folder_takes_no_more(tmp_path: Path) -> None:
    with open_studio(tmp_path, limits=Limits(disk_bytes=20_000)) as client:
        big = png(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
        assert client.post("/api/files", files={"files": ("a.png", big)}).status_code == 200
        answer = client.post("/api/files", files={"files": ("a.png", big)})
        assert answer.status_code == 413 and "its limit" in said(answer)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 30])
def test_a_length_that_is_none_is_refused(client: TestClient, length: str) -> None:
    assert client.post("/api/queue/resume", headers={"Content-Length": length}).status_code in (400, 413)


# bombs


def bomb_png(width: int, height: int) -> bytes:
    """A small file whose header announces a huge picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        + chunk(b"IEND", b"")
    )


def test_bombs_and_strangers_are_refused_with_a_sentence(client: TestClient) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", bytes(5_000_000))
    cases: dict[str, tuple[bytes, int]] = {
        "bomb.png": (bomb_png(60_000, 60_000), 413),
        "archive.zip": (archive.getvalue(), 415),
        "page.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 415),
        "program.png": (b"#!/bin/sh\necho hello\n", 415),
        "empty.png": (b"", 400),
        "cut.png": (photo_png()[:2000], 400),
    }
    for name, (data, status) in cases.items():
        answer = client.post("/api/files", files={"files": (name, data)})
        assert answer.status_code == status and name in said(answer), (name, answer.text)
        mask = client.post("/api/masks", files={"file": (name, data)})
        assert mask.status_code == status, (name, mask.text)
    assert all(f["name"] not in cases for f in client.get("/api/files").json())


def test_one_bad_file_refuses_the_whole_request(client: TestClient) -> None:
    before = client.get("/api/files").json()
    files = [("files", ("good.png", photo_png())), ("files", ("bad.png", b"nothing of a picture"))]
    assert client.post("/api/files", files=files).status_code == 415
    assert client.get("/api/files").json() == before


def test_a_drawn_kernel_may_not_be_a_bomb(client: TestClient) -> None:
    answer = client.post("/api/kernels", json={"drawing": base64.b64encode(bomb_png(50_000, 50_000)).decode()})
    assert answer.status_code == 413
    said(answer)


# paths


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fsettings.py", "/%2fetc%2fpasswd", "/page/../../settings.py",
        "/api/files/..%2f..%2fetc/original", "/api/files/f-..%2f..%2f../image", "/api/jobs/j-0123456789abcde%2f/result",
        "/api/files/f-0123456789ABCDEF/original", "/api/kernels/..%2fk/image", "/api/masks/m-x/image", "/api/files/%00/original",
    ],
)  # fmt: skip
def test_no_address_leads_out_of_the_studio(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (
        answer.status_code in (404, 422, 400)
        and b"root:" not in answer.content
        and b"class Limits" not in answer.content
    )


def test_no_control_reads_a_file_of_the_host(client: TestClient, tmp_path: Path) -> None:
    id = upload(client)
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(make_photo(60, 84)[..., 0]))
    np.save(tmp_path / "kernel.npy", np.ones((3, 3)) / 9)
    tries = [
        ("dct", {"sigma": str(secret)}),
        ("wiener", {"kernel": str(tmp_path / "kernel.npy")}),
        ("wiener", {"kernel": f"{tmp_path}/kernel.npy:0"}),
        ("wiener", {"kernel": "k-../../kernel"}),
        ("dpir", {"kernel": "gaussian:1", "denoiser": str(secret)}),
        ("wiener", {"kernel": "gaussian:1", "network": str(secret)}),
        ("wiener", {"kernel": "gaussian:1", "options.spectrum": str(secret)}),
        ("fsrcnn_x4.restora", {"scale": str(secret)}),
        (str(secret), {}),
        (f"fsrcnn_x4={secret}", {}),
        ("../cards/x", {}),
    ]
    for model, controls in tries:
        for path, body in (("/api/previews", {"file": id}), ("/api/jobs", {"files": [id]})):
            answer = client.post(path, json={**body, "model": model, "controls": controls})
            assert answer.status_code in (400, 404), (model, controls, answer.text)
    assert client.get("/api/jobs").json() == []


def test_a_file_named_like_a_formula_is_not_read(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels in words look for a file of the name first; in the server's folder there may be anything."""
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.ones((3, 3)) / 9)
    for name in ("disk:2", "disk"):
        (tmp_path / name).write_bytes((tmp_path / "x.npy").read_bytes())
    assert client.post("/api/kernels", json={"text": "disk:2"}).json()["size"] == "5x5"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("<img src=x onerror=alert(1)>.png", "_img src=x onerror=alert(1)_.png"),
        ("a\r\nSet-Cookie: x=1.png", "a"),
        (".hidden.png", "hidden.png"),
        ("x" * 500 + ".png", "x" * 116 + ".png"),
        ("evil\u202egnp.exe", "evil_gnp.exe"),
    ],
)
def test_file_names_lose_what_could_hurt(given: str, kept: str) -> None:
    from restora.studio.store import plain_name

    name = plain_name(given)
    assert name.startswith(kept) and len(name) <= 120 and not set(name) & set('/\\\r\n<>"')


def test_a_shared_folder_shows_its_pictures_only(tmp_path: Path) -> None:
    share, outside = tmp_path / "share", tmp_path / "outside"
    for folder in (share / "sub", share / ".hidden", outside):
        folder.mkdir(parents=True)
    (share / "a.png").write_bytes(photo_png())
    (share / "sub" / "b.jpg").write_bytes(png(make_photo(30, 40), "JPEG"))
    (share / ".hidden" / "c.png").write_bytes(photo_png())
    (share / "notes.txt").write_text("secret")
    (share / "broken.png").write_bytes(b"none")
    (outside / "d.png").write_bytes(photo_png())
    (share / "link.png").symlink_to(outside / "d.png")
    (share / "links").symlink_to(outside)
    with open_studio(tmp_path / "state", share_folder=share.resolve()) as client:
        shown = client.get("/api/files").json()
        assert sorted((f["name"], f["shared"]) for f in shown) == [("a.png", True), ("b.jpg", True)]
        id = next(f["id"] for f in shown if f["name"] == "a.png")
        assert np.array_equal(
            np.asarray(Image.open(io.BytesIO(client.get(f"/api/files/{id}/image").content))), make_photo(60, 84)
        )
        assert client.get(f"/api/files/{id}").json()["look"]["noise"] is not None
        answer = client.delete(f"/api/files/{id}")
        assert answer.status_code == 400 and "read only" in said(answer) and (share / "a.png").is_file()
        (share / "a.png").unlink()
        (share / "a.png").symlink_to(outside / "d.png")  # exchanged after it was listed
        assert client.get(f"/api/files/{id}/original").status_code == 404


def test_sentences_name_no_path(tmp_path: Path) -> None:
    from restora.studio.store import Store

    store = Store(tmp_path / "state", Limits(), tmp_path / "share")
    told = store.scrub(
        f"'{tmp_path}/state/jobs/j-1/input' is damaged; see {tmp_path}/share/sub/a.png and {tmp_path}/state."
    )
    assert str(tmp_path) not in told and "'input' is damaged" in told and "a.png" in told


# the server's own life


def test_a_taken_port_gives_the_next_and_a_strange_host_a_sentence() -> None:
    first = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    second = listen("127.0.0.1", port)
    assert port < second.getsockname()[1] <= port + 50
    first.close()
    second.close()
    for host in ("no.such.host.invalid", "203.0.113.7"):
        with pytest.raises(UsageError, match="no address of this machine"):
            listen(host, 0)


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with _alone(tmp_path) as lock:
        _leave(lock, "http://127.0.0.1:7860/")
        with pytest.raises(AlreadyRunning, match="already runs") as caught, _alone(tmp_path):
            pass
        assert caught.value.url == "http://127.0.0.1:7860/"
    with _alone(tmp_path):
        pass


def test_the_command_prints_its_address_with_the_token_and_ends_cleanly(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text(json.dumps({"key": catalogue._fingerprint(), "models": []}))
    server = Server(tmp_path, "--token", TOKEN)
    try:
        assert server.url.endswith(f"/?token={TOKEN}")
        assert server.client.get("/api/about").status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        until(lambda: server.client.get("/api/about", headers=headers).status_code == 200)
        # nothing slow was imported for that
        loaded = Path(f"/proc/{server.process.pid}/maps")
        if loaded.exists():
            assert "libtorch" not in loaded.read_text()
    finally:
        assert server.interrupt() == 0
    assert "Traceback" not in "".join(server.said) and "has ended" in "".join(server.said)
