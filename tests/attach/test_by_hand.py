"""Models that nobody wrote a table for: sites by hand, containers, shared blocks, flat tensors, other devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.sites import by_hand
from tests.support.attached import assert_same, attached, grads, ids, lively, output, snapshot, with_adapters
from tests.zoo.models import build, main_output


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


def network(depth: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(depth)))


def site(layer: int, **more: Any) -> gw.Site:
    path = f"{layer}"
    fields = {"stack": "", "layer": layer, "kind": "feed_forward", "block": path, "width": 8}
    return gw.Site(**{**fields, "output": gw.Tap(f"{path}.mlp", "output"), **more})


def test_sites_as_objects() -> None:
    model, x = network(), torch.randn(3, 4, 8)
    before, plain = snapshot(model), model(x)
    taps = {"residual": gw.Tap("0.mlp", "input", 0)}
    adapters = gw.attach(model, sites=[site(0, **taps), site(1)])
    assert len(adapters.sites) == 2
    adapters.add("a", gw.Standard(bottleneck_size=4))
    lively(adapters, "a")
    assert sorted(adapters.modules_of("a")) == ["0.feed_forward", "1.feed_forward"]
    first, second = (adapters.modules_of("a")[f"{n}.feed_forward"] for n in range(2))

    def delta(module: Any, y: Tensor) -> Tensor:
        return torch.relu(y @ module.down.T + module.down_bias) @ module.up.T + module.up_bias

    with torch.no_grad():
        h = x
        for block, module in zip(model, (first, second), strict=True):
            s = h + block.attn(h)
            y = block.mlp(s)
            h = s + y + delta(module, y)
        with adapters.using("a"):
            torch.testing.assert_close(model(x), h)
    with pytest.warns(UserWarning, match=r"leaves out 1 sites.*residual=gw\.Tap"):
        adapters.add("b", gw.Pfeiffer())  # reads the stream, which the second site does not give
    assert list(adapters.modules_of("b")) == ["0.feed_forward"]
    adapters.remove("b")
    with pytest.raises(gw.SiteError, match=r"residual=gw\.Tap"):
        adapters.add("b", gw.Pfeiffer(leave_out=[0]))
    with pytest.raises(gw.SiteError, match="kinds"):
        adapters.add("b", gw.BapnaFirat())
    assert adapters.names == ("a",)
    adapters.detach()
    assert_same({k: v for k, v in before.items() if k != "requires_grad"}, snapshot(model))
    assert torch.equal(model(x), plain)


@pytest.mark.parametrize("wrong", [[], ["mlp"], [site(7)], [site(0), site(0)]])
def test_sites_that_are_not_there(wrong: Any) -> None:
    model = network()
    before = snapshot(model)
    with pytest.raises((gw.SiteError, gw.ConfigError)):
        gw.attach(model, sites=wrong)
    assert_same(before, snapshot(model))


def test_sites_from_paths() -> None:
    model = network(3)
    sites = by_hand.sites_from_paths(model, {"attention": "*.attn", "feed_forward": "*.mlp"})
    adapters = gw.attach(model, sites=sites)
    adapters.add("a", gw.Standard(bottleneck_size=2))
    assert len(adapters.modules_of("a")) == 6
    lively(adapters, "a")
    x = torch.randn(2, 3, 8)
    plain = model(x)
    adapters.train_only("a")
    assert not torch.equal(model(x), plain)
    model(x).sum().backward()
    assert len(grads(model)) == 6 * 4


def test_nothing_of_ours_in_a_sequential() -> None:
    for model, sites in ((network(), [site(0), site(1)]), (nn.Sequential(network(), nn.Linear(8, 2)), None)):
        given = sites or [site(0, block="0.0", output=gw.Tap("0.0.mlp", "output"))]
        lengths = [len(m) for m in model.modules() if isinstance(m, nn.Sequential)]
        adapters = gw.attach(model, sites=given)
        adapters.add("a", gw.Standard(bottleneck_size=4))
        adapters.active = "a"
        model(torch.randn(2, 3, 8))
        assert [len(m) for m in model.modules() if isinstance(m, nn.Sequential)] == lengths


def test_a_sentence_transformer() -> None:
    zoo = build("sentence_transformer")
    adapters = attached(zoo)
    children = [name for name, _ in zoo.model.named_children()]
    plain = output(zoo.model, zoo.inputs)
    for name in ("a", "h"):
        adapters.add(name, gw.Pfeiffer() if name == "a" else gw.Houlsby())
        lively(adapters, name)
    assert [name for name, _ in zoo.model.named_children()] == children
    rows = plain.shape[0]
    alone = {}
    for name in ("a", "h"):
        with adapters.using(name):
            alone[name] = output(zoo.model, zoo.inputs)
    with adapters.using(gw.MixedBatch(["a"] * (rows - 1) + ["h"])):
        torch.testing.assert_close(output(zoo.model, zoo.inputs), torch.cat([alone["a"][:-1], alone["h"][-1:]]))
    adapters.active = None
    assert torch.equal(output(zoo.model, zoo.inputs), plain)


def test_one_block_called_many_times() -> None:
    model, adapters, inputs = with_adapters("albert", a=gw.Pfeiffer(), h=gw.Houlsby())
    per_layer = adapters.modules_of("a")
    assert len(per_layer) == 3
    assert len({id(m) for m in per_layer.values()}) == 3
    adapters.train_only("a")
    with torch.no_grad():
        for n, module in enumerate(per_layer.values()):
            for p in module.parameters():
                p.zero_()
            expected = output(model, inputs)
            lively(adapters, "h", seed=n)
            module.up_bias.fill_(0.1 * (n + 1))
            assert not torch.equal(output(model, inputs), expected)
    model.train()
    main_output(model(**inputs)).square().sum().backward()
    assert sum(n.endswith("up_bias") for n in grads(model)) == 3


class Flat(nn.Module):
    """Keeps its hidden states as (batch · positions, width), as some old models do."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, 8)
        return (rows + self.mlp(rows)).reshape(x.shape)


def test_flat_hidden_states() -> None:
    torch.manual_seed(0)
    model, x = Flat(), torch.randn(3, 4, 8)
    adapters = gw.attach(model, sites=[site(0, block="", output=gw.Tap("mlp", "output"))])
    for n, name in enumerate("abc"):
        adapters.add(name, gw.Standard(bottleneck_size=4) if name != "c" else gw.Bottleneck(norm_after=True))
        lively(adapters, name, seed=n)
    alone = {}
    for name in (*"abc", None):
        with adapters.using(name):
            alone[name] = output(model, {"x": x})
    for names in (["a", "b", "a"], ["a", None, "c"]):
        with adapters.using(gw.MixedBatch(names)):
            expected = torch.stack([alone[name][row] for row, name in enumerate(names)])
            torch.testing.assert_close(output(model, {"x": x}), expected)


@pytest.mark.parametrize("name", ["bert_classifier", "llama_causal", "t5_generation"])
def test_on_the_meta_device(name: str) -> None:
    zoo = build(name)
    with torch.device("meta"):
        model = type(zoo.model)(zoo.model.config)
    others = gw.attach(zoo.model)
    # BERT of 4.57 looks into its mask, which has no values there: the sites of a model with weights serve as well.
    adapters = gw.attach(model, sites=others.sites if name == "bert_classifier" else None)
    assert adapters.sites == others.sites
    for handle in (adapters, others):
        handle.add("a", gw.Houlsby())
        handle.add("b", gw.Houlsby())
        handle.add_fusion(gw.Fuse("a", "b", name="ab", norms="base"))
        handle.active = "a"
    lively(others, "a")
    assert all(t.device.type == "meta" for t in model.state_dict().values())
    model.to_empty(device="cpu")
    model.load_state_dict(zoo.model.state_dict())
    for n, b in model.named_buffers():  # buffers that no file has
        b.copy_(dict(zoo.model.named_buffers())[n])
    model.eval()
    assert torch.equal(output(model, zoo.inputs), output(zoo.model, zoo.inputs))


def test_a_base_in_bfloat16() -> None:
    for name in ("bert_classifier", "llama_causal", "t5_generation"):
        zoo = build(name, torch.bfloat16)
        adapters = attached(zoo)
        for n, key in enumerate("abh"):
            adapters.add(key, gw.Houlsby() if key == "h" else gw.Pfeiffer())
            lively(adapters, key, seed=n, size=0.05)
        pool = gw.Fuse("a", "b", name="ab")
        adapters.add_fusion(pool)
        for composition in ("a", "h", pool, gw.MixedBatch(["a", "h", None])):
            adapters.train_only(["a", "b", "h", "ab"], active=composition)
            own = [m for key in ("a", "h", "ab") for m in adapters.modules_of(key).values()]
            own += list(adapters.norms_of("h").values())
            assert all(p.dtype == torch.float32 for m in own for p in m.parameters())
            found = main_output(zoo.model(**zoo.inputs))
            assert found.dtype == torch.bfloat16
            found.float().square().mean().backward()
            given = grads(zoo.model)
            assert given
            assert all(torch.isfinite(g).all() for g in given.values())
        adapters.active = "a"
        half = output(zoo.model, zoo.inputs)
        zoo.model.float()
        whole = main_output(zoo.model(**{k: v.float() if v.is_floating_point() else v for k, v in zoo.inputs.items()}))
        torch.testing.assert_close(half.float(), whole, rtol=0.2, atol=0.3)


def test_the_model_is_cast_with_its_adapters() -> None:
    model, adapters, inputs = with_adapters("bert", a=gw.Pfeiffer(), h=gw.Houlsby())
    adapters.active = gw.Stack("a", "h")
    single = output(model, inputs)
    model.double()
    assert all(p.dtype == torch.float64 for p in model.parameters())
    double = output(model, inputs)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)
    model.to(torch.bfloat16)
    assert output(model, inputs).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["bert", "llama_causal", "t5_generation"])
def test_autocast(name: str) -> None:
    model, adapters, inputs = with_adapters(name, a=gw.Pfeiffer(), b=gw.Pfeiffer(), h=gw.Houlsby())
    pool = gw.Fuse("a", "b", name="ab")
    adapters.add_fusion(pool)
    for composition in ("a", "h", gw.Average("a", "b"), pool, gw.MixedBatch(["a", "h", "b"]), gw.Stack("h", pool)):
        adapters.train_only(["a", "b", "h", "ab"], active=composition)
        with torch.no_grad():
            whole = main_output(model(**inputs))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = main_output(model(**inputs))
        (found.float().square().mean()).backward()
        assert grads(model)
        assert (found.float() - whole).abs().mean() < 0.1 * whole.abs().mean() + 0.05


def test_rows_of_a_batch_given_by_position() -> None:
    model, adapters, inputs = with_adapters("bert")
    with adapters.using(gw.MixedBatch(["a", None, "b"])):
        by_name = output(model, inputs)
        with torch.no_grad():
            by_place = model(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
            embedded = model.get_input_embeddings()(inputs["input_ids"])
            by_values = model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"]).last_hidden_state
    assert torch.equal(by_name, by_place)
    torch.testing.assert_close(by_name, by_values)
    with adapters.using(gw.MixedBatch(["a", "b"])), pytest.raises(gw.CompositionError, match="names 2 rows"):
        model(input_ids=ids(5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a layer on another device needs a second device")
def test_layers_on_other_devices() -> None:
    from accelerate import dispatch_model

    model, adapters, inputs = with_adapters("bert")
    adapters.active = "a"
    expected = output(model, inputs)
    dispatch_model(model, {"embeddings": "cpu", "encoder.layer.0": 0, "encoder.layer.1": "cpu", "pooler": "cpu"})
    torch.testing.assert_close(output(model, inputs).cpu(), expected, rtol=1e-3, atol=1e-3)


def test_dispatched_by_accelerate() -> None:
    from accelerate import dispatch_model
    from accelerate.hooks import remove_hook_from_submodules

    model, adapters, inputs = with_adapters("bert")
    adapters.active = gw.Stack("a", "b")
    expected = output(model, inputs)
    dispatch_model(model, {"": "cpu"}, force_hooks=True)
    assert torch.equal(output(model, inputs), expected)
    remove_hook_from_submodules(model)
    assert torch.equal(output(model, inputs), expected)
