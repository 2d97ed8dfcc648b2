"""Drop: a composition without its first layers is what was built without them, to the bit."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.contract.cases import STANDS_NOWHERE, Case
from tests.support.attached import lively, output, with_adapters

LEAVING = [name for name, config in gw.methods().items() if "leave_out" in config().to_dict()]


@pytest.mark.parametrize("method", LEAVING)
@pytest.mark.parametrize("model", ["bert", "t5"])
def test_leaving_layers_out_is_an_adapter_built_without_them(method: str, model: str) -> None:
    if (method, model) in STANDS_NOWHERE:
        pytest.skip(STANDS_NOWHERE[method, model])
    here = Case(method, model)
    adapters, config = here.adapters, here.config.to_dict()
    adapters.add("less", gw.config_from_dict({**config, "leave_out": [0]}))
    for key, module in adapters.modules_of("less").items():
        module.load_state_dict(adapters.modules_of("b")[key].state_dict())
    for path, norm in adapters.norms_of("less").items():
        norm.load_state_dict(adapters.norms_of("b")[path].state_dict())
    if (shared := adapters.shared_of("less")) is not None:
        theirs = adapters.shared_of("b").state_dict()  # type: ignore[union-attr]
        mine = shared.state_dict()
        # a row for each layer where it has that: those of the layers that are left
        shared.load_state_dict({n: t if t.shape == mine[n].shape else t[-len(mine[n]) :] for n, t in theirs.items()})
    with torch.no_grad():
        less = here.run("less")
        assert torch.equal(here.run(gw.Drop("b", layers=1)), less)
        assert torch.equal(here.run(gw.Drop("b", layers=[0])), less)
        assert torch.equal(here.run(gw.Drop("b", layers=0)), here.run("b"))
        assert not torch.equal(less, here.run("b"))


def setup() -> tuple[Any, gw.Adapters, dict[str, Any]]:
    model, adapters, inputs = with_adapters(
        "bert", a=gw.Pfeiffer(reduction_factor=4), b=gw.Pfeiffer(reduction_factor=4)
    )
    adapters.add_fusion(gw.Fuse("a", "b", name="f"))
    lively(adapters, "f", seed=5)
    return model, adapters, inputs


def test_dropping_everything_is_the_plain_model() -> None:
    model, adapters, inputs = setup()
    plain = output(model, inputs)
    layers = max(adapters.sites.stacks.values())
    for composition in ("a", gw.Fuse("a", "b", name="f"), gw.Stack("a", "b")):
        with adapters.using(gw.Drop(composition, layers=layers)):
            assert torch.equal(output(model, inputs), plain)


def test_it_stands_wherever_a_composition_does() -> None:
    model, adapters, inputs = setup()
    (stack,) = adapters.sites.stacks
    last = f"{stack.removeprefix(adapters.sites.prefix)}.1"
    one, other = gw.Drop("a", layers=1), gw.Drop("b", layers=[last])

    def run(composition: gw.Composition) -> torch.Tensor:
        with adapters.using(composition):
            return output(model, inputs)

    rows = inputs["input_ids"].shape[0]
    mixed = run(gw.MixedBatch([one, other] + [None] * (rows - 2)))
    for row, alone in enumerate((run(one), run(other))):
        torch.testing.assert_close(mixed[row], alone[row], rtol=1e-5, atol=1e-6)
    # each has a layer for itself: one after the other, or both at once, is the same
    assert torch.equal(run(gw.Stack(one, other)), run(gw.Stack(other, one)))
    assert not torch.equal(run(gw.Stack(one, other)), run(one))
    fused = gw.Fuse("a", "b", name="f")
    with adapters.using(gw.Drop(fused, layers=1)):
        weights = adapters.fusion_weights(**inputs)["f"]
    assert [site.rpartition(".")[0].rpartition(".")[2] for site in weights] == ["1"]


def test_training_reaches_the_layers_that_are_left_alone() -> None:
    model, adapters, inputs = setup()
    adapters.train_only("a", active=gw.Drop("a", layers=1))
    model(**inputs)[0].sum().backward()
    for key, module in adapters.modules_of("a").items():
        dropped = ".0." in key
        assert all((p.grad is None) is dropped for p in module.parameters())


def test_it_is_data(tmp_path: Any) -> None:
    for block in (gw.Drop("a", layers=3), gw.Drop(gw.Stack("a", None), layers=[0, "decoder.block.2"])):
        again = gw.composition_from_dict(json.loads(json.dumps(gw.composition_to_dict(block))))
        assert again == block
        assert hash(again) == hash(block)
        assert copy.deepcopy(block) == block
    assert repr(gw.Drop("a", layers=3)) == "Drop('a', layers=3)"
    model, adapters, inputs = setup()
    block = gw.Drop("a", layers=1)
    adapters.save(block, tmp_path / "c")
    with adapters.using(block):
        expected = output(model, inputs)
    again, more, _ = with_adapters("bert", other=gw.Pfeiffer())
    with more.using(more.load(tmp_path / "c")):
        assert torch.equal(output(again, inputs), expected)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (-1, "layers is -1; give the number of first layers"),
        (True, "layers is True"),
        ("encoder.0", "layers is 'encoder.0'"),
        ([1.5], r"layers is \[1.5\]"),
        (7, "leaves out the first 7 layers, and there are 2"),
        ([0, 5], "names layer 5, which is not there"),
    ],
)
def test_bad_layers_are_refused(layers: Any, says: str) -> None:
    _, adapters, _ = setup()
    with pytest.raises(gw.CompositionError, match=says):
        adapters.active = gw.Drop("a", layers=layers)
    assert adapters.active is None
