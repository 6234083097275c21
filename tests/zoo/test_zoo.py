"""Cards, checksums, and other people's checkpoints."""

from __future__ import annotations

import functools
import http.server
import pickle
import threading
from pathlib import Path

import pytest
import torch
import yaml

import restora
from restora import networks, zoo
from restora.errors import (
    ChecksumMismatch,
    StateMismatch,
    UnknownArchitecture,
    UnknownModel,
    UnsafeCheckpoint,
    UsageError,
    WeightsError,
)
from restora.zoo.checkpoint import file_sha256, folder_sha256, read_checkpoint, write_weights


def test_bundled_models_are_whole_and_described() -> None:
    cards = zoo.list_models(bundled=True)
    assert {"fsrcnn_x2.restora", "fsrcnn_x3.restora", "fsrcnn_x4.restora"} <= {c.name for c in cards}
    for card in cards:
        net = zoo.load_network(card)
        assert sum(p.numel() for p in net.parameters() if p.requires_grad) == card.parameters
        assert set(card.scales) <= set(net.spec.scales)
        assert zoo.weight_path(card).stat().st_size == card.weights.bytes < 8 << 20
        assert card.licence and card.training.recipe and card.training.data_sha256
        assert card.scores or card.task == "deconvolve"  # of those, benchmarks/nonblind.py has the table
        for score in card.scores:
            before = score.bicubic_psnr if card.task == "super-resolution" else score.input_psnr
            assert before is not None and score.psnr > before
        for failure in card.failures:
            picture = Path(zoo.__file__).parent / "cards" / failure.picture
            assert failure.words and picture.stat().st_size <= 60_000
    assert sum(zoo.weight_path(c).stat().st_size for c in cards) < 25 << 20


def test_a_bare_variant_means_the_bundled_tag() -> None:
    assert zoo.find("fsrcnn_x4").name == "fsrcnn_x4.restora"
    assert zoo.default_model("super-resolution").default
    with pytest.raises(UnknownModel, match=r"fsrcnn_x4"):
        zoo.find("fsrcn_x4")


def test_listing_filters() -> None:
    assert [c.name for c in restora.list_models("*_x3*")] == ["fsrcnn_x3.restora"]
    assert all(c.task == "denoise" for c in restora.list_models(task="denoise"))
    assert restora.list_models(task="film") == []
    assert restora.list_models(licence="GPL*") == []


def test_weights_of_an_own_configuration_have_a_name_of_their_own_and_load() -> None:
    config = {"widths": [8, 16, 16, 16], "blocks": 1}
    net = networks.create("srrunet", **config)
    folder = zoo.cache_folder()
    (folder / "weights").mkdir(parents=True)
    (folder / "cards").mkdir()
    path = folder / "weights" / "srrunet_xs.mine.safetensors"
    write_weights(net, path, {})
    card = zoo.Card(
        name="srrunet_xs.mine", title="tiny", variant="srrunet", config=config, task="super-resolution", family="srrunet",
        scales=[2], licence="MIT", weights=zoo.Weights(file=path.name, sha256=file_sha256(path), bytes=path.stat().st_size),
        failures=[zoo.Failure(picture="srrunet_xs.mine.failures.jpg", words="all of it")],
    )  # fmt: skip
    zoo.write_card(card, folder / "cards" / "srrunet_xs.mine.yaml")
    assert zoo.read_card(folder / "cards" / "srrunet_xs.mine.yaml") == card
    found = zoo.find("srrunet_xs")
    assert found.stem == "srrunet_xs" and found.tag == "mine"
    loaded = zoo.load_network(found)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "My Net x3.pth"
    torch.manual_seed(3)
    torch.save({"params": networks.create("fsrcnn_x3").state_dict()}, path)
    return path


def test_a_checkpoint_is_used_by_path_and_imported(checkpoint: Path) -> None:
    by_path = restora.load(checkpoint)
    assert by_path.scales == [3]
    card = zoo.import_model(checkpoint)
    assert card.name == "fsrcnn_x3.my-net-x3" and not card.bundled
    picture = torch.rand(3, 12, 12)
    assert torch.equal(by_path(picture).tensor, restora.load(card.name)(picture).tensor)
    assert card.name in {c.name for c in zoo.list_models()}
    zoo.remove(card.name)
    with pytest.raises(UnknownModel):
        zoo.find(card.name)


def test_what_shapes_cannot_tell_must_be_said(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(networks.create("fsrcnn_x3").state_dict(), path)
    with pytest.raises(UsageError, match=r"fsrcnn_x2, fsrcnn_x3, fsrcnn_x4.*--scale"):
        restora.load(path)
    assert restora.load(path, scale=3).scales == [3]
    assert restora.load(f"fsrcnn_x3={path}").scales == [3]
    with pytest.raises(StateMismatch):
        restora.load(f"fsrcnn_s_x3={path}")
    with pytest.raises(UsageError, match="fsrcnn_x9"):
        restora.load(f"fsrcnn_x9={path}")
    for name in ("x3_net.pth", "net-3x.pth", "net_x3_v2.pth"):
        path = path.rename(tmp_path / name)
        assert restora.load(path).scales == [3]


def test_a_safetensors_file_knows_its_variant(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_weights(networks.create("fsrcnn_x2"), path, {"restora.variant": "fsrcnn_x2"})
    assert restora.load(path).scales == [2]


def test_shared_blocks_are_written_once(tmp_path: Path) -> None:
    net = networks.create("pcarn_m")
    write_weights(net, tmp_path / "net.safetensors", {})
    state, _ = read_checkpoint(tmp_path / "net.safetensors")
    assert "b1.b2.conv1.weight" not in state
    loaded = networks.load_state(networks.create("pcarn_m"), state)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), loaded.state_dict().values(), strict=True))
    assert networks.identify(state).variant == "pcarn_m"


class Evil:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", ["zip", "bare"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / "evil_x4.pth"
    if protocol == "zip":
        torch.save({"params": Evil(trap)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(trap)))
    with pytest.raises(UnsafeCheckpoint, match="refused"):
        restora.load(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello, I am no checkpoint", "no checkpoint"),
        (b"\x80\x02garbage", "."),
        (b"PK\x03\x04" + b"\0" * 50, "no checkpoint"),
        (b"\x10\0\0\0\0\0\0\0{not json at all}", "damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(path)


def test_truncation_anywhere_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for length in range(1, len(whole), len(whole) // 23):
        (tmp_path / "cut_x3.pth").write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            restora.load(tmp_path / "cut_x3.pth")


def test_missing_files_and_foreign_objects(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        restora.load(tmp_path / "absent.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="not a state dict"):
        restora.load(tmp_path / "list.pth")
    torch.save({"some.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UnknownArchitecture):
        restora.load(tmp_path / "other.pth")
    torch.save(networks.create("pcarn_discriminator_1").state_dict(), tmp_path / "disc.pth")
    with pytest.raises(UsageError, match="discriminator"):
        zoo.import_model(tmp_path / "disc.pth")


def test_a_changed_weight_file_is_noticed(checkpoint: Path) -> None:
    card = zoo.import_model(checkpoint, name="mine")
    path = zoo.weight_path(card)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumMismatch, match=r"fsrcnn_x3\.mine"):
        restora.load(card.name)
    path.unlink()
    with pytest.raises(WeightsError, match="not on this machine"):
        restora.load(card.name)


def test_names_of_bundled_models_cannot_be_taken(checkpoint: Path) -> None:
    for name in ("restora", "!!!"):
        with pytest.raises(UsageError, match="taken"):
            zoo.import_model(checkpoint, name=name)
    with pytest.raises(UsageError, match="bundled"):
        zoo.remove("fsrcnn_x4.restora")


def test_an_invalid_card_says_what_is_wrong() -> None:
    folder = zoo.cache_folder() / "cards"
    folder.mkdir(parents=True)
    card = zoo.find("fsrcnn_x2").model_dump(mode="json")
    (folder / "bad.yaml").write_text(yaml.safe_dump({**card, "colour": "blue"}))
    with pytest.raises(WeightsError, match="colour"):
        zoo.cards()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_fetching_verifies_the_checksum(tmp_path: Path, checkpoint: Path) -> None:
    card = zoo.import_model(checkpoint, name="remote")
    served = tmp_path / "served"
    served.mkdir()
    weights = zoo.weight_path(card).rename(served / card.weights.file)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/{card.weights.file}"
        remote = card.model_copy(
            update={"weights": card.weights.model_copy(update={"url": [url.replace(".safe", ".none"), url]})}
        )
        assert file_sha256(zoo.fetch(remote)) == card.weights.sha256
        assert zoo.fetch(remote) == zoo.weight_path(card)  # the second time it is there
        zoo.weight_path(card).unlink()
        weights.write_bytes(b"something else")
        with pytest.raises(ChecksumMismatch, match="another file"):
            zoo.fetch(remote)
        assert not list((zoo.cache_folder() / "weights").iterdir())
    finally:
        server.shutdown()


def test_folder_checksum_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = folder_sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = folder_sha256(tmp_path)
    (tmp_path / "b").write_bytes(b"2")
    assert len({first, second, folder_sha256(tmp_path)}) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("file", "psnr"), [("carn/carn_m.pth", {"Set5": 31.88469, "Set14": 28.42204})])
def test_published_weights_give_their_measured_score(data_folder: Path, file: str, psnr: dict[str, float]) -> None:
    from restora.evaluation import psnr as measure

    restorer = restora.load(data_folder / "weights" / file, tile=0)
    for name, expected in psnr.items():
        scores = []
        for low in sorted((data_folder / "bench" / name / "LRx4").glob("*.png")):
            truth = restora.Picture.open(str(low).replace("LRx4", "HRx4")).pixels
            result = restorer(low, scale=4).array
            if truth.shape[2] == 1:
                truth, result = truth.repeat(3, axis=2), result.repeat(3, axis=2)
            scores.append(measure(result, truth, protocol="sr-y", scale=4))
        assert sum(scores) / len(scores) == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["pcarn/PCARN-M.pth", "pcarn/PCARN-M-L1.pth"])
def test_published_pcarn_is_identified_and_loads_strictly(data_folder: Path, file: str) -> None:
    net, variant = zoo.identify_file(data_folder / "weights" / file)
    assert variant == "pcarn_m" and net.spec.scales == (2, 3, 4)


def test_a_cache_that_cannot_be_read_hides_no_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESTORA_CACHE", str(tmp_path / "file"))
    assert zoo.find("fsrcnn_x2").bundled

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert zoo.find("fsrcnn_x2").bundled


def test_several_defaults_share_the_scales() -> None:
    """SPAN at x4, CARN-M below it: each scale has one default, and the usual scale's stands for them."""
    assert [c.name for c in zoo.default_models("super-resolution")] == ["carn_m.restora", "span_x4.restora"]
    upscaler = restora.load(task="upscale")
    assert {scale: source.name for scale, source in upscaler.sources.items()} == {
        2: "carn_m.restora", 3: "carn_m.restora", 4: "span_x4.restora",
    }  # fmt: skip
    assert upscaler.scale == 4
    assert upscaler.used(upscaler.check_controls({"scale": 3})) == "carn_m.restora"
    assert upscaler.used(upscaler.check_controls({})) == "span_x4.restora"
    # realsr_x4 is of the same family, but not the same model for another scale
    assert [c.name for c in zoo.siblings(zoo.find("span_x4"))] == ["span_x4.restora"]
    assert [c.name for c in zoo.siblings(zoo.find("fsrcnn_x2"))] == [f"fsrcnn_x{s}.restora" for s in (2, 3, 4)]
    assert restora.load("span").used(restora.load("span").check_controls({})) == "span_x4.restora"
