"""Building, identifying and loading networks."""

from __future__ import annotations

import pytest
import torch

from restora import networks
from restora.engine import NetworkOperator
from restora.errors import StateMismatch, UnknownArchitecture, UsageError

VARIANTS = networks.variants()


def build(variant: str) -> torch.nn.Module:
    """A variant without data (as large as it may be), where its constructor allows it."""
    try:
        with torch.device("meta"):
            return networks.create(variant)
    except (RuntimeError, NotImplementedError):
        return networks.create(variant)


@pytest.mark.filterwarnings("ignore:.*which is a no-op")
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_built_identified_and_loaded(variant: str) -> None:
    net = build(variant)
    if any(v.is_meta for v in net.state_dict().values()):
        # a shared tensor is told from two equal ones by its values, so the few such networks are built in earnest
        net = networks.create(variant) if networks.shared_keys(net) else net
    assert not net.training
    found = networks.identify(net.state_dict())
    assert variant in found.candidates
    networks.load_state(build(variant), net.state_dict())
    assert net.spec.source and net.spec.task
    assert all(c.optional or c.default is not None or c.high is not None or c.choices for c in net.spec.controls)


@pytest.mark.parametrize(
    ("variant", "millions"), [("carn_x8", "1.259587"), ("mprnet_denoise", "15.7"), ("mprnet_derain", "3.64")]
)
def test_published_sizes(variant: str, millions: str) -> None:
    """The efficiency thesis's table 3.1 (CARN-B3U3) and the MPRNet paper's tables."""
    count = sum(p.numel() for p in build(variant).parameters() if p.requires_grad)
    assert f"{count / 1e6:.{len(millions.partition('.')[2])}f}" == millions


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_gradients_and_determinism(variant: str) -> None:
    """Small networks in earnest; the large ones have small forms in their own tests."""
    shadow = build(variant)
    spec = shadow.spec
    if sum(p.numel() for p in shadow.parameters()) > 1_500_000 or spec.task in ("discriminator", "part", "deconvolve"):
        return
    torch.manual_seed(0)
    net = networks.create(variant)
    height, width = (max(n, spec.minimum) // spec.multiple_of * spec.multiple_of or spec.multiple_of for n in (9, 7))
    x = torch.rand(2, spec.channels, height, width)
    for scale in spec.scales:
        operator = NetworkOperator(net, scale)
        y = operator._run(x)
        assert y.shape == (2, spec.channels, height * scale, width * scale)
        assert torch.equal(y, operator._run(x))
        y.square().mean().backward()
    trained = [p for p in net.parameters() if p.requires_grad]
    assert all(torch.isfinite(p.grad).all() for p in trained if p.grad is not None)
    assert sum(p.numel() for p in trained if p.grad is not None) > 0.9 * sum(p.numel() for p in trained)


def test_variants_take_a_pattern() -> None:
    assert networks.variants("fsrcnn_x*") == ["fsrcnn_x2", "fsrcnn_x3", "fsrcnn_x4"]


def test_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="fsrcnn_x4"):
        networks.create("fsrcn_x4")
    with pytest.raises(UsageError, match="cannot be built"):
        networks.create("fsrcnn_x4", depth=3)


def test_scales_a_network_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="2, 3, 4"):
        networks.create("carn")(torch.rand(1, 3, 8, 8), scale=5)
    with pytest.raises(UsageError, match="scale=None"):
        networks.create("carn")(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", "model_state_dict", "net"])
def test_wrappers_and_prefixes_are_opened(wrapper: str) -> None:
    state = networks.create("fsrcnn_x3").state_dict()
    wrapped = {wrapper: {f"module.{k}": v for k, v in state.items()}, "iteration": 7}
    assert networks.identify(wrapped).family == "fsrcnn"
    networks.load_state(networks.create("fsrcnn_x3"), wrapped)


def test_averaged_weights_are_preferred() -> None:
    plain, averaged = networks.create("srcnn").state_dict(), networks.create("srcnn").state_dict()
    opened = networks.unwrap({"params": plain, "params_ema": averaged})
    assert opened["conv1.weight"] is averaged["conv1.weight"]


def test_unknown_checkpoints_are_refused_with_the_nearest() -> None:
    state = networks.create("srcnn").state_dict()
    state["conv9.weight"] = torch.zeros(3)
    with pytest.raises(UnknownArchitecture, match="srcnn"):
        networks.identify(state)
    with pytest.raises(UnknownArchitecture, match="no tensors"):
        networks.identify({"epoch": 3})
    with pytest.raises(UnknownArchitecture, match="None has any key name in common"):
        networks.identify({"unheard_of": torch.zeros(3)})
    state = networks.create("edsr_baseline_x2").state_dict()
    swapped = {k.replace("body.1.", "body.x."): v for k, v in state.items()}
    with pytest.raises(UnknownArchitecture, match="edsr"):
        networks.identify(swapped)


def test_the_file_of_key_names_is_up_to_date() -> None:
    """If not: `python -c "from restora.networks import registry; registry.write_key_names()"`."""
    from restora.networks import registry

    for name, family in networks.families().items():
        assert registry._key_names()[name] == registry.built_key_names(family), name


def test_a_network_of_the_right_keys_and_wrong_shapes_is_not_built() -> None:
    state = networks.create("srcnn").state_dict()
    state["conv2.weight"] = torch.zeros(32, 64, 3, 3)
    with pytest.raises(UnknownArchitecture):
        networks.identify(state)


def test_a_mismatch_is_named_and_nothing_is_loaded() -> None:
    net = networks.create("fsrcnn_x2")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = networks.create("fsrcnn_s_x2").state_dict()
    state["extra"] = torch.zeros(1)
    with pytest.raises(StateMismatch, match=r"missing.*unexpected.*first_part\.0\.weight"):
        networks.load_state(net, state)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_shared_tensors_may_be_given_once_but_not_in_two_values() -> None:
    net = networks.create("pcarn_m_x2")
    repeated = networks.shared_keys(net)
    assert "b1.b2.conv1.weight" in repeated
    state = {k: v for k, v in net.state_dict().items() if k not in repeated}
    networks.load_state(networks.create("pcarn_m_x2"), state)
    state["b1.b2.conv1.weight"] = state["b1.b1.conv1.weight"] + 1
    with pytest.raises(StateMismatch, match="two different"):
        networks.load_state(networks.create("pcarn_m_x2"), state)
