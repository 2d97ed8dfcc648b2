"""K-Adapter: the formula in whole models, the trunk that nothing is written into, several apart and together, refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import lively
from tests.support.formulas import PHI, attention, layer_norm
from tests.support.interpreter import close
from tests.zoo.models import build, main_output

SMALL: dict[str, Any] = {"size": 12, "heads": 3, "inner": 20, "dropout": 0.0}
BLOCKS = {"bert": "encoder.layer", "gpt2": "h", "roberta": "encoder.layer"}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


def linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def side_layer(module: Any, x: Tensor, config: gw.KAdapter, mask: Tensor | None, causal: bool) -> Tensor:
    """A transformer layer of BERT, written out."""
    w = weights(module)
    attended = attention(weights(module.attention), x, config.heads, mask, causal)
    x = layer_norm(x + linear(w, "out", attended), w["attention_norm.weight"], w["attention_norm.bias"])
    made = linear(w, "down", PHI[config.activation](linear(w, "up", x)))
    return layer_norm(x + made, w["norm.weight"], w["norm.bias"])


def by_the_formula(
    config: gw.KAdapter, module: Any, hidden: list[Tensor], last: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """What becomes of the last hidden states: o_i = U layers(D x_i) + x_i with x_i = H_{l_i} + o_{i-1}, then add or W [H; o]."""
    out = torch.zeros_like(last)
    for state, adapter in zip(hidden, module.adapters, strict=True):
        x, w = state + out, weights(adapter)
        inside = linear(w, "down", x)
        for layer in adapter.layers:
            inside = side_layer(layer, inside, config, mask, causal)
        out = linear(w, "up", inside) + x
    if config.combine == "add":
        return last + out
    w = weights(module)
    both = torch.cat([torch.eye(last.shape[-1], dtype=last.dtype) + w["kept"], w["joined"]], dim=1)
    return torch.cat([last, out], dim=-1) @ both.T + w["bias"]


def run_by_hand(plain: Any, stack: str, change: Any, inputs: dict[str, Any]) -> Tensor:
    """A copy of the model in which ``change(hidden states, last)`` stands behind the last block."""
    model = copy.deepcopy(plain)
    blocks, seen = model.get_submodule(stack), []

    def look(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])

    def turn(_: nn.Module, __: Any, output: Any) -> Any:
        last = output if isinstance(output, Tensor) else output[0]
        changed = change([*seen, last], last)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    for block in blocks:
        block.register_forward_pre_hook(look, with_kwargs=True)
    blocks[-1].register_forward_hook(turn)
    return main_output(model(**inputs))


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize(
    "config",
    [
        gw.KAdapter(**SMALL, dtype="float64"),
        gw.KAdapter(**SMALL, dtype="float64", combine="add", layers=(0, 2)),
        gw.KAdapter(**SMALL, dtype="float64", layers=(1,), depth=1),
    ],
    ids=["concat", "add, the last too", "one"],
)
def test_equals_its_formula(name: str, config: gw.KAdapter) -> None:
    zoo = build(name, torch.float64)
    plain, causal = copy.deepcopy(zoo.model), name == "gpt2"
    adapters = gw.attach(zoo.model)
    adapters.add("k", config)
    lively(adapters, "k", seed=1, size=0.3)
    ((key, module),) = adapters.modules_of("k").items()
    assert key == f"{BLOCKS[name]}.1.layer"
    chosen = config.layers or (0, 1)
    mask = zoo.inputs["attention_mask"].bool()

    def change(hidden: list[Tensor], last: Tensor) -> Tensor:
        return by_the_formula(config, module, [hidden[n] for n in chosen], last, mask, causal)

    with torch.no_grad():
        before = main_output(zoo.model(**zoo.inputs))
        with adapters.using("k"):
            actual = main_output(zoo.model(**zoo.inputs))
        close(actual, run_by_hand(plain, BLOCKS[name], change, zoo.inputs))
    assert float((actual - before).abs().max()) > 1e-3


def test_the_trunk_is_never_changed() -> None:
    """Every hidden state before the end is the base's, bit for bit; and what was not asked for is not carried."""
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    adapters.add("k", gw.KAdapter(**SMALL))
    lively(adapters, "k", seed=1, size=0.5)
    with torch.no_grad():
        plain = zoo.model(**zoo.inputs, output_hidden_states=True).hidden_states
        with adapters.using("k"):
            changed = zoo.model(**zoo.inputs, output_hidden_states=True).hidden_states
    for one, other in zip(plain[:-1], changed[:-1], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(plain[-1], changed[-1])
    adapters.add("p", gw.Pfeiffer())
    adapters.active = "p"
    assert not [role for roles in adapters.runtime.plan.taps.values() for role in roles if role.startswith("hidden")]


def test_it_reads_what_adapters_below_made_of_the_hidden_states() -> None:
    zoo = build("bert", torch.float64)
    adapters = gw.attach(zoo.model)
    config = gw.KAdapter(**SMALL, dtype="float64")
    adapters.add("k", config)
    adapters.add("p", gw.Pfeiffer(dtype="float64"))
    for name in "kp":
        lively(adapters, name, seed=1, size=0.3)
    (module,) = adapters.modules_of("k").values()
    mask = zoo.inputs["attention_mask"].bool()
    with torch.no_grad():
        with adapters.using("p"):
            states = zoo.model(**zoo.inputs, output_hidden_states=True).hidden_states
        expected = by_the_formula(config, module, list(states[:2]), states[2], mask, False)
        for order in (gw.Stack("p", "k"), gw.Stack("k", "p")):
            with adapters.using(order):
                close(zoo.model(**zoo.inputs).last_hidden_state, expected)


def test_several_apart_and_together() -> None:
    """Two kinds of knowledge are added; the first is as it was, bit for bit, when the second has been trained."""
    zoo = build("bert", torch.float64)
    adapters = gw.attach(zoo.model)
    for name in ("fac", "lin"):
        adapters.add(name, gw.KAdapter(**SMALL, combine="add", dtype="float64"))
        lively(adapters, name, seed=len(name), size=0.3)
    before = {n: p.detach().clone() for n, p in adapters.modules_of("fac")["encoder.layer.1.layer"].named_parameters()}
    adapters.train_only("lin")
    zoo.model.train()
    zoo.model(**zoo.inputs).last_hidden_state.square().mean().backward()
    torch.optim.SGD([p for p in zoo.model.parameters() if p.requires_grad], lr=0.1).step()
    for n, p in adapters.modules_of("fac")["encoder.layer.1.layer"].named_parameters():
        assert torch.equal(p, before[n])
    zoo.model.eval()
    with torch.no_grad():
        out = {}
        both = gw.Average("fac", "lin", weights=[1, 1], normalize=False)
        for name, composition in {"fac": "fac", "lin": "lin", "none": None, "both": both}.items():
            with adapters.using(composition):
                out[name] = zoo.model(**zoo.inputs).last_hidden_state
    close(out["both"], out["fac"] + out["lin"] - out["none"])


@pytest.mark.parametrize(
    ("config", "more"),
    [(gw.KAdapter(layers=(0, 11, 22), combine="add"), 0), (gw.KAdapter(layers=(0, 11, 22)), 2_098_176)],
)
def test_published_count(config: gw.KAdapter, more: int) -> None:
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    with torch.device("meta"):
        adapters = gw.attach(hf.RobertaModel(hf.RobertaConfig(**sizes)))
    adapters.add("k", config)
    (row,) = adapters.summary().rows
    assert row.weights == 3 * 15_750_400 + more == 47_251_200 + more


def test_which_hidden_states_are_read_by_default() -> None:
    config = gw.KAdapter()
    assert [config.layers_of(n) for n in (1, 2, 6, 12, 24)] == [(0,), (0, 1), (0, 2, 5), (0, 5, 11), (0, 11, 23)]


def test_starts() -> None:
    torch.manual_seed(0)
    adapters = gw.attach(build("bert").model)
    adapters.add("k", gw.KAdapter())
    (module,) = adapters.modules_of("k").values()
    stds = {"joined": 0.02, "down.weight": 2e-4, "up.weight": 2e-4}
    for name, p in module.named_parameters():
        if "norm" in name:
            assert torch.equal(p, torch.full_like(p, float(name.endswith("weight"))))
        elif name.endswith("bias") or name == "kept":
            assert not p.any(), name
        else:
            short = name.split(".", 2)[-1] if name.startswith("adapters") else name
            assert float(p.detach().std()) == pytest.approx(stds.get(short, 0.02), rel=0.1), name


# -- gradient checkpointing, caches, files -----------------------------------------------------------------------------


def test_reentrant_checkpointing_is_refused_by_name() -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    adapters.add("k", gw.KAdapter(**SMALL))
    adapters.train_only("k")
    zoo.model.train()
    zoo.model.gradient_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(gw.AttachError, match=r"reads hidden states of other layers.*'use_reentrant': False"):
        zoo.model(**zoo.inputs)


@pytest.mark.parametrize("base", ["frozen", "trained"])
def test_checkpointing_leads_gradients_back_to_every_layer(base: str) -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    adapters.add("k", gw.KAdapter(**SMALL))
    adapters.add("p", gw.Pfeiffer())
    for name in "kp":
        lively(adapters, name, seed=1)
    adapters.train_only(["k", "p"], active=gw.Stack("p", "k"), base=base)

    def gradients() -> dict[str, Tensor]:
        zoo.model.train()
        torch.manual_seed(3)
        zoo.model(**zoo.inputs).last_hidden_state.square().mean().backward()
        found = {n: p.grad.clone() for n, p in zoo.model.named_parameters() if p.grad is not None}
        zoo.model.zero_grad(set_to_none=True)
        return found

    expected = gradients()
    zoo.model.gradient_checkpointing_enable({"use_reentrant": False})
    actual = gradients()
    assert actual.keys() == expected.keys()
    for name, grad in expected.items():
        close(actual[name], grad, 1e-4)


def test_a_cache_is_refused_by_name() -> None:
    zoo = build("llama_causal")
    adapters = gw.attach(zoo.model)
    adapters.add("k", gw.KAdapter(**SMALL))
    adapters.active = "k"
    ids = zoo.inputs["input_ids"]
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3, "do_sample": False, "pad_token_id": 1}
    with pytest.raises(gw.CompositionError, match=r"'k' mixes positions, .*use_cache=False"):
        zoo.model.generate(ids, **options)
    zoo.model.generate(ids, **options, use_cache=False)


def test_files(tmp_path: Path) -> None:
    zoo, other = build("roberta"), build("roberta")
    adapters, there = gw.attach(zoo.model), gw.attach(other.model)
    adapters.add("k", gw.KAdapter(**SMALL, layers=(0, 2)))
    lively(adapters, "k", seed=1)
    adapters.save("k", tmp_path / "k")
    there.load(tmp_path / "k")
    with torch.no_grad(), adapters.using("k"), there.using("k"):
        assert torch.equal(zoo.model(**zoo.inputs).last_hidden_state, other.model(**zoo.inputs).last_hidden_state)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": (3, 1)}, r"layers is \(3, 1\); give the numbers of hidden states in rising order"),
        ({"layers": ()}, r"layers is \(\)"),
        ({"layers": (-1,)}, r"layers is \(-1,\)"),
        ({"layers": 3}, "layers is 3"),
        ({"combine": "mean"}, "combine is 'mean'"),
        ({"heads": 5}, "heads is 5, which does not divide size 768"),
        ({"depth": 0}, "depth is 0"),
        ({"init": "zero", "combine": "add"}, "init is 'zero', but with combine='add'"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=f"KAdapter: {said}"):
        gw.KAdapter(**options)


def test_what_the_model_does_not_have_is_named() -> None:
    model = build("bert").model
    adapters = gw.attach(model)
    with pytest.raises(gw.ConfigError, match=r"layers names the hidden states 3, and 'encoder.layer' has 0 to 2"):
        adapters.add("k", gw.KAdapter(layers=(0, 3)))
    sites = [site for site in adapters.sites if site.kind == "layer"]
    adapters.detach()
    blind = [gw.Site(s.stack, s.layer, "layer", s.block, s.output, s.width) for s in sites]
    with pytest.raises(gw.SiteError, match=r"KAdapterModule reads 'hidden:0', .*encoder.layer.1.layer.*layer_input"):
        gw.attach(model, sites=blind).add("k", gw.KAdapter(layers=(0,)))
