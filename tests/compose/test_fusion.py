"""AdapterFusion: every form of it equals the plain formula, and the formula's own laws hold. All in float64."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import graftwork as gw
from graftwork.compose import FuseNode, FusionModule
from graftwork.compose.bank import Bank
from graftwork.compose.fusion.fuse_forms import Folded, fuse
from graftwork.compose.reads import BranchReads, SiteContext
from graftwork.compose.tree import node_for
from graftwork.methods import AdapterModule, Place
from graftwork.sites import Site, Tap
from tests.support import formulas as formula
from tests.support.attached import bert_classifier, ids, lively
from tests.support.interpreter import Lab, close, unsettle
from tests.support.models_by_hand import Here

SITE = "encoder.layer.0.feed_forward"
TOLERANCE = 1e-10


@dataclasses.dataclass
class Bench:
    """One site with random tensors, a pool at it, and a fusion of the pool."""

    pool: gw.Fuse
    configs: dict[str, gw.Bottleneck]
    adapters: dict[str, AdapterModule]
    fusion: FusionModule
    tensors: dict[str, Tensor]
    norm: nn.Module | None
    scale: float | None
    mask: Tensor

    def reads(self, record: dict[Any, Any] | None = None) -> BranchReads:
        taps = {k: v for k, v in self.tensors.items() if k != "output"}
        norm: Any = self.norm
        around = SiteContext(len(self.mask), mask=self.mask, record=record)
        return BranchReads(self.tensors["output"], taps, around, scale=self.scale, norm=norm)

    def here(self) -> Here:
        norms: Any = None if self.norm is None else [self.norm] * len(self.mask)
        scale = 1.0 if self.scale is None else self.scale
        return Here(SITE, "feed_forward", norms=norms, mask=self.mask, causal=False, scale=scale, **self.tensors)

    def node(self, pool: gw.Fuse | None = None) -> FuseNode:
        node = node_for(pool or self.pool, self.adapters.get, lambda name: self.fusion, SITE)
        assert isinstance(node, FuseNode)
        return node

    def run(self, pool: gw.Fuse | None = None) -> tuple[Tensor, Tensor]:
        """The library: δ and the weights."""
        record: dict[str, Any] = {}
        delta = self.node(pool)(self.reads(record))
        (weights,) = record[self.pool.name].values()
        return delta, weights

    def child(self, child: Any, here: Here) -> Tensor:
        """A child's addition, written out."""
        if child is None or child in ("absent",):
            return torch.zeros_like(here.output)
        if isinstance(child, str):
            config = self.configs[child]
            return formula.bottleneck(config, self.adapters[child], here.read(config.reads), here.mask)
        total = torch.zeros_like(here.output)
        for part in child.children:
            delta = self.child(part, here)
            if isinstance(child, gw.Stack):
                here, total = here.after(delta), total + delta
            else:
                total = total + delta / len(child.children)
        return total

    def expect(self, pool: gw.Fuse | None = None, score_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The plain formula: δ and the weights."""
        here = self.here()
        zs = [self.child(c, here) for c in (pool or self.pool).children]
        residual = here.output if self.fusion.config.residual_before else None
        return formula.fusion(self.fusion, here.read(self.fusion.config.query), zs, residual, score_mask)

    def leaves(self) -> list[Tensor]:
        """Everything that can have a gradient."""
        weights = [p for m in [self.fusion, *self.adapters.values()] for p in m.parameters()]
        return [*weights, *self.tensors.values()]


def bench(
    children: Sequence[Any],
    *,
    width: int = 6,
    rows: int = 2,
    positions: int = 3,
    post_norm: bool = True,
    scale: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Bench:
    """Children are options of a `Bottleneck`, ``None``, ``"absent"``, or a pair of a block and a list of options."""
    configs: dict[str, gw.Bottleneck] = {}

    def named(options: dict[str, Any]) -> str:
        configs[f"a{len(configs)}"] = gw.Bottleneck(**options, dtype="float64")
        return f"a{len(configs) - 1}"

    def parsed(child: Any) -> Any:
        if child is None or child == "absent":
            return child
        return child[0](*(named(o) for o in child[1])) if isinstance(child, tuple) else named(child)

    pool = gw.Fuse(*(parsed(c) for c in children), name="f")
    site = Site("encoder.layer", 0, "feed_forward", "encoder.layer.0", Tap("encoder.layer.0", "output"), width)
    adapters: dict[str, Any] = {name: c.build(Place(site, 1)) for name, c in configs.items()}
    fusion = FusionModule(width, gw.FusionConfig(**options, dtype="float64"))
    unsettle([fusion, *adapters.values()], seed, 0.7)
    draw = torch.Generator().manual_seed(seed + 1)
    shape = (rows, positions, width)
    names = ("output", "residual", "input", "layer_input")
    tensors = {n: torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for n in names}
    norm = nn.LayerNorm(width, dtype=torch.float64) if post_norm else None
    unsettle([] if norm is None else [norm], seed + 2)
    mask = torch.arange(positions)[None] < torch.arange(positions, positions - rows, -1).clamp(min=1)[:, None]
    return Bench(pool, configs, adapters, fusion, tensors, norm, scale, mask)


# -- what is drawn -----------------------------------------------------------------------------------------------------

READS = ("output", "normed", "stream", "residual", "input", "layer_input")
FOLDABLE = st.fixed_dictionaries(
    {"bottleneck_size": st.integers(1, 5)},
    optional={
        "activation": st.sampled_from(["relu", "gelu", "gelu_tanh", "silu", "tanh", "identity"]),
        "up_bias": st.booleans(),
        "reads": st.sampled_from(READS),
        "scale": st.sampled_from([0.3, 4.0, "learned", "channel"]),
        "skip": st.sampled_from([None, "low_rank"]),
        "skip_rank": st.integers(1, 3),
    },
)
ANY = st.fixed_dictionaries(
    {"bottleneck_size": st.integers(1, 5)},
    optional={
        "activation": st.sampled_from(["relu", "gelu_tanh", "leaky_relu", "sigmoid"]),
        "up_bias": st.booleans(),
        "reads": st.sampled_from(READS),
        "scale": st.sampled_from([0.3, "channel"]),
        "skip": st.sampled_from(["low_rank", "dense", "diagonal", "scalar"]),
        "norm_before": st.booleans(),
        "norm_after": st.booleans(),
        "gate": st.booleans(),
    },
)
BLOCKS = st.tuples(st.sampled_from([gw.Stack, gw.Average]), st.lists(FOLDABLE | ANY, min_size=1, max_size=2))
MIXED = st.lists(FOLDABLE | ANY | BLOCKS | st.none() | st.just("absent"), min_size=1, max_size=4).filter(
    lambda pool: any(c is not None and c != "absent" for c in pool)
)
BANKED = st.lists(FOLDABLE, min_size=1, max_size=5)
SHAPES = st.fixed_dictionaries(
    {
        "width": st.sampled_from([4, 6, 9]),
        "rows": st.integers(1, 3),
        "positions": st.integers(1, 5),
        "post_norm": st.booleans(),
        "scale": st.sampled_from([None, 0.6]),
        "seed": st.integers(0, 1 << 16),
    }
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "query": st.sampled_from(["normed", "output"]),
        "value": st.booleans(),
        "residual_before": st.booleans(),
        "temperature": st.sampled_from([1.0, 3.5]),
    },
)


def gradients(delta: Tensor, of: Bench) -> list[Tensor | None]:
    direction = torch.randn(delta.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return list(torch.autograd.grad((delta * direction).sum(), of.leaves(), allow_unused=True))


def gradients_close(actual: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    largest = max(float(g.abs().max()) for g in expected if g is not None)
    for mine, wanted in zip(actual, expected, strict=True):
        zero = torch.zeros(())
        off = (zero if mine is None else mine) - (zero if wanted is None else wanted)
        assert float(off.abs().max()) <= TOLERANCE * largest


# -- every form equals the plain one -----------------------------------------------------------------------------------


@given(MIXED, SHAPES, OPTIONS)
def test_any_pool_equals_the_plain_formula(children: list[Any], shape: dict[str, Any], options: dict[str, Any]) -> None:
    it = bench(children, **shape, **options)
    expected, attention = it.expect()
    actual, weights = it.run()
    close(actual, expected, TOLERANCE)
    close(weights, attention, TOLERANCE)
    gradients_close(gradients(actual, it), gradients(expected, it))
    with torch.no_grad():
        close(it.run()[0], expected, TOLERANCE)


@given(BANKED, SHAPES, OPTIONS)
def test_every_form_equals_the_plain_formula(
    children: list[dict[str, Any]], shape: dict[str, Any], options: dict[str, Any]
) -> None:
    it = bench(children, **shape, **options)
    expected, attention = it.expect()
    wanted = gradients(expected, it)
    members = [it.adapters[c] for c in it.pool.children if isinstance(c, str)]
    bank, order = Bank(members), range(len(members))
    deltas = [m(it.reads().get(m.reads), it.reads().around) for m in members]
    folded = Folded(it.fusion, bank)
    for form in (
        lambda: fuse(it.fusion, it.reads(), None, deltas, order),
        lambda: fuse(it.fusion, it.reads(), bank, [], order),
        lambda: folded(it.reads()),
    ):
        actual, weights = form()
        close(actual, expected, TOLERANCE)
        close(weights, attention, TOLERANCE)
        gradients_close(
            list(torch.autograd.grad(*_directed(actual), it.leaves(), allow_unused=True, retain_graph=True)), wanted
        )
        with torch.no_grad():
            close(form()[0], expected, TOLERANCE)
    folded.pin()
    close(folded(it.reads())[0], expected, TOLERANCE)


def _directed(delta: Tensor) -> tuple[Tensor]:
    direction = torch.randn(delta.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return ((delta * direction).sum(),)


@given(MIXED, SHAPES, st.booleans(), st.floats(0.1, 0.8))
def test_dropout_on_the_scores_equals_the_plain_formula_under_the_same_mask(
    children: list[Any], shape: dict[str, Any], residual_before: bool, p: float
) -> None:
    it = bench(children, **shape, dropout=p, residual_before=residual_before)
    it.fusion.trainable = True
    mask = _mask((shape["rows"], shape["positions"], len(children)), p)
    with same_mask(p):
        actual, weights = it.run()
    expected, attention = it.expect(score_mask=mask)
    close(actual, expected, TOLERANCE)
    close(weights, attention, TOLERANCE)
    gradients_close(gradients(actual, it), gradients(expected, it))


def _mask(shape: Sequence[int], p: float) -> Tensor:
    keep = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(5), dtype=torch.float64) > p
    return keep.double() / (1 - p)


@contextmanager
def same_mask(p: float) -> Iterator[None]:
    """Dropout by the shape alone."""

    def dropout(values: Tensor, rate: float = 0.5, training: bool = True) -> Tensor:
        assert (rate, training) == (p, True)
        return values * _mask(values.shape, p)

    with mock.patch.object(nn.functional, "dropout", dropout):
        yield


TWO = [{"bottleneck_size": 3}, {"bottleneck_size": 2, "activation": "tanh"}]


@pytest.mark.parametrize(("learns", "training"), [(False, True), (True, False), (False, False)])
def test_dropout_on_the_scores_is_off_unless_the_fusion_learns(learns: bool, training: bool) -> None:
    it = bench(TWO, dropout=0.7)
    it.fusion.train(training)
    it.fusion.trainable = learns
    close(it.run()[0], it.expect()[0], TOLERANCE)


@pytest.mark.parametrize("children", [TWO, [*TWO, {"bottleneck_size": 2, "norm_after": True}]])
def test_the_keys_bias_has_a_gradient_of_zero(children: list[Any]) -> None:
    it = bench(children)
    it.run()[0].square().sum().backward()
    assert it.fusion.key_bias.grad is not None
    assert not it.fusion.key_bias.grad.any()
    it.fusion.trainable, it.fusion.config = True, gw.FusionConfig(dropout=0.5)
    it.run()[0].square().sum().backward()
    assert it.fusion.key_bias.grad.any()  # under dropout on the scores it has a true one


@pytest.mark.parametrize("option", [{}, {"norm_after": True}])
def test_with_one_adapter_queries_and_keys_have_a_gradient_of_zero(option: dict[str, Any]) -> None:
    it = bench([{"bottleneck_size": 3, **option}])
    it.run()[0].square().sum().backward()
    for name in ("query_weight", "query_bias", "key_weight", "key_bias"):
        grad = it.fusion.get_parameter(name).grad
        assert grad is not None, name
        assert float(grad.abs().max()) < 1e-12, name
    assert it.fusion.value_delta.grad.any()


# -- laws --------------------------------------------------------------------------------------------------------------


@given(FOLDABLE | ANY | BLOCKS, SHAPES)
def test_one_child_with_v_the_identity_is_that_child(child: Any, shape: dict[str, Any]) -> None:
    it = bench([child], **shape)
    with torch.no_grad():
        it.fusion.value_delta.zero_()
    close(it.run()[0], it.child(it.pool.children[0], it.here()), TOLERANCE)


@given(MIXED.filter(lambda c: len(c) > 1), SHAPES, OPTIONS, st.randoms(use_true_random=False))
def test_permuting_the_pool_permutes_the_weights_and_nothing_else(
    children: list[Any], shape: dict[str, Any], options: dict[str, Any], random: Any
) -> None:
    it = bench(children, **shape, **options)
    order = list(range(len(children)))
    random.shuffle(order)
    before, weights = it.run()
    after, permuted = it.run(gw.Fuse(*(it.pool.children[n] for n in order), name="f"))
    close(after, before, TOLERANCE)
    close(permuted, weights[..., order], TOLERANCE)


@given(MIXED, st.integers(2, 3), SHAPES, OPTIONS)
def test_copying_every_member_divides_the_weights(
    children: list[Any], times: int, shape: dict[str, Any], options: dict[str, Any]
) -> None:
    it = bench(children, **shape, **options)
    before, weights = it.run()
    after, copied = it.run(gw.Fuse(*it.pool.children * times, name="f"))
    close(after, before, TOLERANCE)
    close(copied, torch.cat([weights / times] * times, dim=-1), TOLERANCE)


@given(MIXED, SHAPES, OPTIONS, st.data())
def test_copying_one_member_adds_log_2_to_its_score(
    children: list[Any], shape: dict[str, Any], options: dict[str, Any], data: st.DataObject
) -> None:
    it = bench(children, **shape, **options)
    which = data.draw(st.integers(0, len(children) - 1))
    weights = it.run()[1]
    copied = it.run(gw.Fuse(*it.pool.children, it.pool.children[which], name="f"))[1]
    scores = weights.log()
    scores[..., which] += math.log(2)
    shared = scores.softmax(-1)
    close(copied[..., :-1].index_fill(-1, torch.tensor(which), 0), shared.index_fill(-1, torch.tensor(which), 0), 1e-9)
    close(copied[..., which] + copied[..., -1], shared[..., which], 1e-9)


def test_a_child_that_adds_nothing_has_the_score_zero() -> None:
    it = bench([TWO[0], None, "absent"])
    with torch.no_grad():
        for p in it.adapters.values():
            p.down.zero_(), p.down_bias.zero_(), p.up_bias.zero_()  # now every child adds zero
    assert torch.allclose(it.run()[1], torch.full((2, 3, 3), 1 / 3, dtype=torch.float64))


# -- temperature -------------------------------------------------------------------------------------------------------


def test_the_temperature_falls_by_advance_and_by_nothing_else() -> None:
    it = bench(TWO, temperature=5.0, temperature_steps=4)
    seen = []
    for _ in range(6):
        seen.append(float(it.fusion.temperature))
        for training in (True, False):
            it.fusion.train(training)
            first, second = it.run()[0], it.run()[0]
            assert torch.equal(first, second)
        close(first, it.expect()[0], TOLERANCE)
        it.fusion.on_optimizer_step()
    assert seen == [5.0, 4.0, 3.0, 2.0, 1.0, 1.0]


def test_the_temperature_is_saved_where_it_stands() -> None:
    it = bench(TWO, temperature=5.0, temperature_steps=4)
    for _ in range(2):
        it.fusion.on_optimizer_step()
    again = FusionModule(6, it.fusion.config)
    again.load_state_dict(it.fusion.state_dict())
    assert float(again.temperature) == 3.0
    again.on_optimizer_step()
    assert float(again.temperature) == 2.0


def test_a_folded_fusion_follows_the_temperature() -> None:
    it = bench(TWO, temperature=5.0, temperature_steps=2)
    node = it.node()
    with torch.no_grad():
        close(node(it.reads()), it.expect()[0], TOLERANCE)
        it.fusion.on_optimizer_step()
        close(node(it.reads()), it.expect()[0], TOLERANCE)


def test_no_temperature_no_buffer() -> None:
    assert not dict(bench(TWO).fusion.named_buffers())


# -- folded weights are remade -----------------------------------------------------------------------------------------


def _load(module: nn.Module) -> None:
    module.load_state_dict({k: torch.randn_like(v) for k, v in module.state_dict().items()})


def _step(module: nn.Module) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.3)
    for p in module.parameters():
        p.grad = torch.randn_like(p)
    optimiser.step()


def _replace(module: nn.Module) -> None:
    for name, p in list(module.named_parameters()):
        setattr(module, name, nn.Parameter(torch.randn_like(p)))


def _set_one(module: nn.Module) -> None:
    with torch.no_grad():
        next(iter(module.parameters()))[0, 0] += 1.0


def _there_and_back(module: nn.Module) -> None:
    module.to(torch.float32)
    _load(module)
    module.to(torch.float64)


CHANGES = {f.__name__.strip("_"): f for f in (_load, _step, _replace, _set_one, _there_and_back)}


@pytest.mark.parametrize("of", ["fusion", "adapter"])
@pytest.mark.parametrize("change", CHANGES)
def test_folded_weights_are_remade_after_a_change(of: str, change: str) -> None:
    it = bench(TWO)
    node = it.node()
    with torch.no_grad():
        before = node(it.reads())
        close(before, it.expect()[0], TOLERANCE)
    CHANGES[change](it.fusion if of == "fusion" else it.adapters["a1"])
    with torch.no_grad():
        after = node(it.reads())
        close(after, it.expect()[0], TOLERANCE)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("dtypes", [("float32", "float32", "float64"), ("bfloat16", "float64", "float32")])
def test_weights_of_several_dtypes(dtypes: tuple[str, str, str]) -> None:
    """Folded they give what the trainable form gives."""
    model = bert_classifier(num_hidden_layers=1)
    adapters = gw.attach(model)
    for name, dtype in zip("ab", dtypes, strict=False):
        adapters.add(name, gw.Pfeiffer(dtype=dtype))
        lively(adapters, name)
    adapters.add_fusion(gw.Fuse("a", "b", name="ab"), gw.FusionConfig(dtype=dtypes[2]))
    lively(adapters, "ab")
    adapters.active = "ab"
    with torch.no_grad():
        folded = model(ids(2, 5)).logits
    adapters.train_only(gw.Fuse("a", "b", name="ab"))
    torch.testing.assert_close(model(ids(2, 5)).logits.detach(), folded, atol=1e-3, rtol=1e-3)


def test_folded_weights_are_remade_in_another_dtype() -> None:
    it = bench(TWO)
    node = it.node()
    with torch.no_grad():
        node(it.reads())
        for module in (it.fusion, *it.adapters.values(), it.norm):
            module.to(torch.float32)
        it.tensors = {k: v.float() for k, v in it.tensors.items()}
        actual = node(it.reads())
        assert actual.dtype is torch.float32
        close(actual, it.expect()[0], 1e-5)


def test_folded_weights_are_kept_while_nothing_learns_or_changes() -> None:
    it = bench(TWO)
    node = it.node()
    with torch.no_grad():
        node(it.reads())
        assert node.folded.weights() is not node.folded.weights()  # what learns may change unseen
    for p in [*it.fusion.parameters(), *(p for a in it.adapters.values() for p in a.parameters())]:
        p.requires_grad_(False)
    with torch.no_grad():
        node(it.reads())
        first = node.folded.weights()
        node(it.reads())
        assert node.folded.weights() is first
    with torch.inference_mode():
        node(it.reads())
        assert node.folded.weights() is first


def test_what_is_folded_in_inference_mode_serves_training_afterwards() -> None:
    it = bench(TWO)
    node = it.node()
    with torch.inference_mode():
        node(it.reads())
    for p in [*it.fusion.parameters(), *(p for a in it.adapters.values() for p in a.parameters())]:
        p.requires_grad_(False)
    delta = node(it.reads())
    delta.square().sum().backward()
    assert it.tensors["output"].grad is not None


# -- the weights' start and their loss ---------------------------------------------------------------------------------


def test_the_start_and_the_pull() -> None:
    fusion = FusionModule(128, gw.FusionConfig())
    for weight in (fusion.query_weight, fusion.key_weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not fusion.query_bias.any()
    assert not fusion.key_bias.any()
    delta = fusion.value_delta.detach()
    assert float(delta.std()) == pytest.approx(1e-6, rel=0.02)
    assert torch.equal(fusion.value(), torch.eye(128) + delta)
    assert float(fusion.regularization_loss()) == pytest.approx(0.01 * float(delta.square().sum()))
    assert FusionModule(8, gw.FusionConfig(value=False)).value() is None
    assert FusionModule(8, gw.FusionConfig(value=False)).regularization_loss() is None
    with torch.no_grad():
        fusion.value_delta.fill_(0.5)
    fusion.regularization_loss().backward()
    assert torch.allclose(fusion.value_delta.grad, torch.full((128, 128), 0.01))  # 0.01 · 2 · Δ


# -- narrow dtypes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("extra", [[], [{"bottleneck_size": 2, "norm_after": True}], [None]])
@pytest.mark.parametrize("options", [{}, {"residual_before": True}, {"value": False, "query": "output"}])
def test_bfloat16_activations(grad: bool, extra: list[Any], options: dict[str, Any]) -> None:
    it = bench([*TWO, *extra], width=9, seed=4, **options)
    with torch.no_grad():
        for module in (it.fusion, *it.adapters.values()):
            for p in module.parameters():
                p.mul_(0.5)
    narrow = copy.deepcopy(it)
    for module in (narrow.fusion, *narrow.adapters.values(), narrow.norm):
        module.to(torch.float32)
    narrow.norm.to(torch.bfloat16)
    narrow.tensors = {k: v.detach().bfloat16() for k, v in it.tensors.items()}
    with torch.set_grad_enabled(grad):
        actual, weights = narrow.run()
    expected, attention = it.expect()
    assert (actual.dtype, weights.dtype) == (torch.bfloat16, torch.float32)
    close(actual.double(), expected, 0.05)
    close(weights.double(), attention, 0.05)
    assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-6)


# -- in a model --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Lab:
    lab = Lab("bert")
    lab.add("a", gw.Pfeiffer(bottleneck_size=3))
    lab.add("b", gw.Pfeiffer(bottleneck_size=2, activation="gelu"))
    lab.add("c", gw.Parallel(bottleneck_size=3))
    lab.add("slow", gw.Pfeiffer(bottleneck_size=3, skip="dense", norm_after=True))
    lab.add("gated", gw.Pfeiffer(bottleneck_size=3, gate=True, norm_before=True))
    lab.add("half", gw.Pfeiffer(bottleneck_size=3, leave_out=(0,)))
    lab.add_fusion(gw.Fuse("a", "b", "c", "slow", "gated", "half", name="f"))
    lab.add_fusion(gw.Fuse("a", "b", name="g"), query="output", residual_before=True)
    return lab


F, G = (lambda *children: gw.Fuse(*children, name="f")), (lambda *children: gw.Fuse(*children, name="g"))


@pytest.mark.parametrize(
    "composition",
    [
        F("a", "b", "c"),
        F("c", "slow", "a", "gated", "half", "b"),
        F("half", "slow"),
        F("half", None, "a"),
        F("a"),
        G("b", "a"),
        F(gw.Stack("a", "slow"), "b", G("a", "b")),
        gw.Stack("a", F("b", "c"), G("a", "b")),
        gw.Average(F("a", "b"), G("a", "b"), "c"),
        gw.MixedBatch([F("a", "b", "gated"), None, F("c", "a")]),
        gw.MixedBatch([F("a", "slow"), "b", G("a", "b")]),
        gw.BatchSplit(F("a", "b", "c"), G("a", "b"), batch_sizes=[1, 2]),
        gw.BatchSplit(gw.Stack("a", F("gated", "c")), "b", batch_sizes=[2, 1]),
        gw.Split(F("a", "b"), "c", splits=[3, 4]),
        gw.Replicate(F("a", "b"), "a"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("grad", [True, False])
def test_in_a_model(lab: Lab, composition: gw.Block, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        close(lab.run(composition), lab.expect(composition), 1e-9)


def test_reading_the_weights_out_changes_nothing(lab: Lab) -> None:
    with torch.no_grad(), lab.adapters.using(F("a", "slow", "b")):
        before = lab.model(**lab.inputs).last_hidden_state
        read = lab.adapters.fusion_weights(**lab.inputs)
        after = lab.model(**lab.inputs).last_hidden_state
    assert torch.equal(before, after)
    assert set(read) == {"f"}
    assert list(read["f"]) == [f"encoder.layer.{n}.feed_forward" for n in range(2)]
    for weights in read["f"].values():
        assert weights.shape == (3, 7, 3)
        close(weights.sum(-1), torch.ones(3, 7, dtype=torch.float64), 1e-12)
        assert float(weights.std()) > 1e-3
    assert lab.adapters.runtime.record is None


def test_the_weights_read_out_are_those_of_the_formula(lab: Lab) -> None:
    seen = {}
    plain = formula.fusion

    def spy(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        delta, weights = plain(*args, **kwargs)
        seen[len(seen)] = weights
        return delta, weights

    with torch.no_grad(), mock.patch.object(formula, "fusion", spy), lab.adapters.using(F("b", "c")):
        read = lab.adapters.fusion_weights(**lab.inputs)["f"]
        lab.expect(F("b", "c"))
    for actual, expected in zip(read.values(), seen.values(), strict=True):
        close(actual, expected, 1e-9)


def test_fold_pins_the_weights_until_something_else_is_activated() -> None:
    lab = Lab("bert")
    lab.add("a", gw.Pfeiffer(bottleneck_size=3))
    lab.add("b", gw.Pfeiffer(bottleneck_size=2))
    lab.add_fusion(F("a", "b"))
    lab.adapters.active = F("a", "b")
    before = lab.model(**lab.inputs).last_hidden_state
    assert lab.adapters.fold() == 2
    close(lab.model(**lab.inputs).last_hidden_state, before, 1e-9)
    lab.unsettle("f")
    close(lab.model(**lab.inputs).last_hidden_state, before, 1e-9)
    lab.adapters.active = F("a", "b")
    close(lab.model(**lab.inputs).last_hidden_state, lab.expect(F("a", "b")), 1e-9)


def test_the_pull_is_added_to_the_loss_once_and_only_while_the_fusion_learns() -> None:
    lab = Lab("bert")
    lab.add("a", gw.Pfeiffer(bottleneck_size=3))
    lab.add_fusion(F("a"), regularization=0.25)
    assert lab.adapters.auxiliary_loss().item() == 0
    lab.adapters.train_only(F("a"))
    wanted = 0.25 * sum(float(m.value_delta.detach().square().sum()) for m in lab.adapters.modules_of("f").values())
    assert float(lab.adapters.auxiliary_loss()) == pytest.approx(wanted)
    lab.adapters.train_only("a")
    assert lab.adapters.auxiliary_loss().item() == 0
