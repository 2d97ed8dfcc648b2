"""Defects found in other libraries of this kind, each as a test: what went wrong there must hold here.

The numbers are those of the list that they were found in; defects of methods and files that have tests of their own
elsewhere are not repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.support.interpreter import Lab, close
from tests.zoo.models import build, clone_inputs, main_output


@pytest.fixture(scope="module")
def lab() -> Lab:
    lab = Lab("bert")
    lab.add("a", gw.Pfeiffer(bottleneck_size=4))
    lab.add("b", gw.Pfeiffer(bottleneck_size=3))
    lab.add("par", gw.Parallel(bottleneck_size=3))
    lab.add("two", gw.Standard(bottleneck_size=3))
    lab.add("half", gw.Pfeiffer(bottleneck_size=3, leave_out=(0,)))
    for name, pool in {"f": ("a", "b", "par", "two", "half"), "last": ("a", "half")}.items():
        lab.add_fusion(gw.Fuse(*pool, name=name))
    return lab


def test_1_an_average_divides_once(lab: Lab) -> None:
    with torch.no_grad():
        close(lab.run(gw.Average("a", "a")), lab.run("a"), 1e-12)
        close(lab.run(gw.Average("a", "a", weights=[0.3, 0.7])), lab.run("a"), 1e-12)
        close(lab.run(gw.Average("a", "b")), lab.expect(gw.Average("a", "b")))


@pytest.mark.parametrize("block", [gw.BatchSplit, gw.Replicate])
def test_2_nested_blocks_apply_norm_and_residual_once(lab: Lab, block: Any) -> None:
    children = (gw.Stack("a", "b"), "two")
    with torch.no_grad():
        parts = [lab.run(child) for child in children]
        if block is gw.Replicate:
            close(lab.run(gw.Replicate(*children)), torch.cat(parts), 1e-12)
        else:
            close(lab.run(gw.BatchSplit(*children, batch_sizes=[2, 1])), torch.cat([parts[0][:2], parts[1][2:]]), 1e-12)


@pytest.mark.parametrize(
    "names", [("a", "par", "two"), ("two", "a", "par"), ("par", "two", "a"), ("half", "two", "par")]
)
def test_3_one_batch_mixes_methods(lab: Lab, names: tuple[str, ...]) -> None:
    with torch.no_grad():
        batch = lab.run(gw.BatchSplit(*names, batch_sizes=[1, 1, 1]))
        for row, name in enumerate(names):
            close(batch[row], lab.run(name)[row], 1e-12)


@pytest.mark.parametrize("pool", [("a", "par"), ("par", "a"), ("a", "half"), ("half", "a"), ("par", "half", "two")])
def test_3_a_fusion_mixes_methods_and_left_out_layers_in_any_order(lab: Lab, pool: tuple[str, ...]) -> None:
    with torch.no_grad():
        close(lab.run(gw.Fuse(*pool, name="f")), lab.expect(gw.Fuse(*pool, name="f")))


def test_4_every_layer_uses_its_own_norm(lab: Lab) -> None:
    """The equation holds for models whose layers' norms differ, which the zoo's do; and the norms are those of the sites."""
    norms = [site.norm for site in lab.adapters.sites if site.norm is not None]
    assert len(set(norms)) == len(norms) == 4
    weights = [lab.model.get_submodule(path).weight for path in norms]
    assert not any(torch.equal(weights[0], w) for w in weights[1:])
    with torch.no_grad():
        close(lab.run("a"), lab.expect("a"))


def trained(weight_decay: float, pull: float) -> Tensor:
    """V − I after steps on the pull alone."""
    torch.manual_seed(0)
    lab = Lab("bert")
    lab.add("a", gw.Pfeiffer(bottleneck_size=3))
    pool = gw.Fuse("a", name="f")
    lab.add_fusion(pool, regularization=pull)
    lab.adapters.train_only(pool)
    (module, _) = lab.adapters.modules_of("f").values()
    optimiser = torch.optim.AdamW([module.value_delta], lr=0.01, weight_decay=weight_decay)
    for _ in range(3):
        optimiser.zero_grad()
        (lab.adapters.auxiliary_loss() + 0.0 * module.value_delta.sum()).backward()
        optimiser.step()
    return module.value_delta.detach()


def test_7_the_pull_and_the_decay_of_v_both_lead_to_the_identity() -> None:
    start = trained(0.0, 0.0).norm()
    for decay, pull in ((0.5, 0.0), (0.0, 0.1), (0.5, 0.1)):
        assert trained(decay, pull).norm() < start


def test_7_the_pull_is_in_the_loss_of_the_same_step() -> None:
    zoo = build("bert_classifier", torch.float64)
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.Pfeiffer(bottleneck_size=3))
    losses, gradients = {}, {}
    for pull in (0.0, 10.0):
        pool = gw.Fuse("a", name=f"pull {pull}")
        torch.manual_seed(0)
        adapters.add_fusion(pool, gw.FusionConfig(regularization=pull, value_std=0.1))
        adapters.train_only(pool)
        zoo.model.train()
        torch.manual_seed(1)
        out = zoo.model(**zoo.inputs, labels=torch.tensor([0, 1, 2]))
        out.loss.backward()
        modules = adapters.modules_of(pool.name).values()
        losses[pull] = float(out.loss)
        gradients[pull] = torch.stack([m.value_delta.grad for m in modules])
        deltas = torch.stack([m.value_delta.detach() for m in modules])
        zoo.model.eval()
        evaluated = zoo.model(**zoo.inputs, labels=torch.tensor([0, 1, 2])).loss
        assert float(evaluated) < 5 < 10 * float(deltas.square().sum())  # evaluation has no pull in it
    assert losses[10.0] - losses[0.0] == pytest.approx(10 * float(deltas.square().sum()), rel=1e-5)
    torch.testing.assert_close(gradients[10.0] - gradients[0.0], 20 * deltas, rtol=1e-4, atol=1e-6)


def test_8_evaluating_twice_gives_the_same_whatever_the_temperature() -> None:
    lab = Lab("bert")
    lab.add("a", gw.Pfeiffer(bottleneck_size=3))
    lab.add("b", gw.Pfeiffer(bottleneck_size=3))
    pool = gw.Fuse("a", "b", name="f")
    lab.add_fusion(pool, temperature=20.0, temperature_steps=10)
    with torch.no_grad():
        assert torch.equal(lab.run(pool), lab.run(pool))
        lab.adapters.train_only(pool)
        first = lab.run(pool)
        lab.model.train()
        lab.model.eval()
        assert torch.equal(first, lab.run(pool))
        lab.adapters.on_optimizer_step()
        assert not torch.equal(first, lab.run(pool))


def test_8_the_temperature_is_in_the_file(tmp_path: Path) -> None:
    def make() -> Lab:
        torch.manual_seed(0)
        lab = Lab("bert")
        lab.add("a", gw.Pfeiffer(bottleneck_size=3))
        lab.add("b", gw.Pfeiffer(bottleneck_size=2))
        return lab

    here, there, pool = make(), make(), gw.Fuse("a", "b", name="f")
    here.add_fusion(pool, temperature=20.0, temperature_steps=10)
    here.adapters.train_only(pool)
    for _ in range(3):
        here.adapters.on_optimizer_step()
    here.adapters.save(pool, tmp_path / "f")
    there.adapters.load(tmp_path / "f")
    with torch.no_grad():
        assert torch.equal(there.run(pool), here.run(pool))


def test_8_a_static_fusion_has_no_matrix_that_is_never_used(lab: Lab) -> None:
    lab.add_fusion(gw.Fuse("a", "b", name="static"), value=False)
    try:
        (module, _) = lab.adapters.modules_of("static").values()
        assert {n for n, _ in module.named_parameters()} == {"query_weight", "query_bias", "key_weight", "key_bias"}
    finally:
        lab.adapters.remove("static")


def test_11_two_methods_alike_in_their_numbers_keep_their_own_configurations() -> None:
    adapters = gw.attach(build("bert").model)
    options = {"bottleneck_size": 4, "activation": "gelu", "init": "normal", "init_std": 0.02, "norms": "base"}
    adapters.add("h", gw.Houlsby(**options))
    adapters.add("s", gw.Standard(**options))
    assert type(adapters.config("h")) is gw.Houlsby
    assert type(adapters.config("s")) is gw.Standard
    assert gw.Houlsby(**options) != gw.Standard(**options)


def test_13_a_name_inside_another_name_is_another_name(tmp_path: Path) -> None:
    zoo = build("bert_classifier")
    adapters = gw.attach(zoo.model)
    for name in ("a", "ab", "a,b", "a.b"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=2))
    for pool in (("a", "ab"), ("a", "ab", "a,b")):
        adapters.add_fusion(gw.Fuse(*pool, name=",".join(pool)))
    one = {id(m) for m in adapters.modules_of("a").values()} | {id(m) for m in adapters.head_of("a").values()}
    two = {id(m) for m in adapters.modules_of("ab").values()} | {id(m) for m in adapters.head_of("ab").values()}
    assert not one & two
    sizes = {}
    for name in ("a", "ab", "a,ab", "a,ab,a,b"):
        adapters.save(name, tmp_path / name)
        files = [f for f in (tmp_path / name).rglob("*.safetensors") if f.is_file()]
        sizes[name] = sum(f.stat().st_size for f in files)
    assert abs(sizes["a"] - sizes["ab"]) < 100
    assert abs(sizes["a,ab"] - sizes["a,ab,a,b"]) < 100
    adapters.remove("a,ab,a,b")
    adapters.remove("a,b")
    adapters.remove("a.b")
    assert set(adapters.names) == {"a", "ab"}
    with torch.no_grad(), adapters.using(gw.Fuse("a", "ab", name="a,ab")):
        zoo.model(**clone_inputs(zoo.inputs))


@pytest.mark.parametrize("scale", [1, 2, 0, -1])
def test_15_a_whole_number_is_a_scale(lab: Lab, scale: int) -> None:
    lab.add("scaled", gw.Pfeiffer(bottleneck_size=3, scale=scale))
    try:
        with torch.no_grad():
            close(lab.run("scaled"), lab.expect("scaled"))
    finally:
        lab.adapters.remove("scaled")


def test_15_layers_start_apart_and_the_seed_is_the_users() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        adapters = gw.attach(build("bert").model)
        adapters.add("a", gw.Pfeiffer())
        states.append([m.down.detach() for m in adapters.modules_of("a").values()])
    assert not torch.equal(*states[0])
    assert all(torch.equal(one, other) for one, other in zip(states[0], states[1], strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(states[0], states[2], strict=True))


def test_15_nothing_sets_the_global_seed() -> None:
    """Two adapters added in one go differ, and what comes after depends on the seed before."""
    numbers = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        adapters = gw.attach(build("bert").model)
        adapters.add("a", gw.Pfeiffer())
        adapters.add("b", gw.Pfeiffer())
        adapters.add_fusion(gw.Fuse("a", "b"))
        first, second = (next(iter(adapters.modules_of(n).values())).down for n in "ab")
        assert not torch.equal(first, second)
        numbers.append(float(torch.rand(())))
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "config", [gw.Pfeiffer(), gw.Houlsby(), gw.BapnaFirat(), gw.Bottleneck(skip="dense", gate=True)]
)
def test_16_a_base_in_half_precision(dtype: torch.dtype, config: gw.AdapterConfig) -> None:
    zoo = build("bert", dtype)
    adapters = gw.attach(zoo.model)
    for name in ("a", "b"):
        adapters.add(name, config)
    composition = gw.Stack("a", gw.Average("a", "b", norms="base"))
    with adapters.using(composition):
        output = main_output(zoo.model(**clone_inputs(zoo.inputs)))
    assert output.dtype is dtype
    assert torch.isfinite(output).all()
    assert {p.dtype for m in adapters.modules_of("a").values() for p in m.parameters()} == {torch.float32}


@pytest.mark.parametrize("reentrant", [True, False])
def test_17_gradient_checkpointing_with_repeated_rows(reentrant: bool) -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    for name in ("a", "b"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=3))
    block = gw.Replicate("a", gw.Stack("a", "b"), None)
    adapters.train_only(["a", "b"], active=block)
    zoo.model.train()
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            zoo.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        torch.manual_seed(0)
        zoo.model(**zoo.inputs).last_hidden_state.square()[..., 0].mean().backward()
        found.append([p.grad.clone() for p in zoo.model.parameters() if p.requires_grad])
        zoo.model.zero_grad()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert any(g.any() for g in found[0])


def test_17_frozen_adapters_draw_nothing_while_a_fusion_learns() -> None:
    zoo = build("bert")
    for module in zoo.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):  # BERT's attention in transformers 4
            module.dropout_prob = 0.0
    adapters = gw.attach(zoo.model)
    for name in ("a", "b"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=3, dropout=0.5, stochastic_depth=0.5, init_std=1.0))
    pool = gw.Fuse("a", "b", name="f")
    adapters.add_fusion(pool)
    zoo.model.train()

    def spread(seeds: int = 4) -> float:
        outputs = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            outputs.append(zoo.model(**zoo.inputs).last_hidden_state.detach())
        return float(torch.stack(outputs).std(0).max())

    adapters.train_only(pool)
    assert spread() == 0
    adapters.train_only(["f", "a"], active=pool)
    assert spread() > 0


def test_17_only_the_learners_head_learns() -> None:
    adapters = gw.attach(build("bert_classifier").model)
    for name in ("a", "b"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=3))
    adapters.train_only("a")
    learning = {id(p) for p in adapters.model.parameters() if p.requires_grad}
    own = {id(p) for m in [*adapters.modules_of("a").values(), *adapters.head_of("a").values()] for p in m.parameters()}
    assert learning == own


@pytest.mark.parametrize("name", ["a.b", "train", "type", "to", "keys", "n_a", "%2E", "größe", "a/b", "forward", "0"])
def test_17_any_text_is_a_name(name: str, tmp_path: Path) -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    adapters.add(name, gw.Pfeiffer(bottleneck_size=3))
    adapters.add("other", gw.Pfeiffer(bottleneck_size=3))
    adapters.add_fusion(gw.Fuse(name, "other", name=f"{name} fused"))
    with torch.no_grad(), adapters.using(gw.Stack(name, gw.Fuse(name, "other", name=f"{name} fused"))):
        expected = main_output(zoo.model(**clone_inputs(zoo.inputs)))
    state = {k: v.clone() for k, v in zoo.model.state_dict().items()}
    zoo.model.load_state_dict(state)
    adapters.save(name, tmp_path / "x")
    there = build("bert").model
    assert gw.attach(there).load(tmp_path / "x") == name
    with torch.no_grad(), adapters.using(gw.Stack(name, gw.Fuse(name, "other", name=f"{name} fused"))):
        assert torch.equal(expected, main_output(zoo.model(**clone_inputs(zoo.inputs))))
    adapters.remove(f"{name} fused")
    adapters.remove(name)
    assert adapters.names == ("other",)
