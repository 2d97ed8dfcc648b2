"""The laws of composition, on whole models in float64.

Random compositions of every block, nested, are computed twice: by the library, and by the interpreter beside this file
on a model that is run by hand. Then each law by itself, without the interpreter.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import graftwork as gw
from tests.support.interpreter import Lab, close, unsettle
from tests.zoo.models import build

ROWS, POSITIONS = 3, 7  # of the zoo's texts
LORA = {"targets": ("query", "value", "dense", "c_attn", "c_fc", "mlp.*"), "exclude": ("layers.*.attention.dense",)}
ADAPTERS: dict[str, gw.AdapterConfig] = {
    "p": gw.Pfeiffer(bottleneck_size=4),
    "q": gw.Pfeiffer(bottleneck_size=4),
    "wide": gw.Pfeiffer(bottleneck_size=6, activation="gelu"),
    "par": gw.Parallel(bottleneck_size=3),
    "std": gw.Standard(bottleneck_size=4),
    "low": gw.Bottleneck(skip="low_rank", bottleneck_size=2, scale="channel"),
    "slow": gw.Pfeiffer(bottleneck_size=3, skip="dense", norm_after=True),
    "gated": gw.Standard(bottleneck_size=3, gate=True),
    "half": gw.Pfeiffer(bottleneck_size=4, leave_out=(0,)),
    "entry": gw.Bottleneck(sites=("attention",), reads="layer_input", bottleneck_size=2),
    "plus": gw.AdapterPlus(bottleneck_size=3),
    "between": gw.BapnaFirat(bottleneck_size=3),
    "lora": gw.LoRA(rank=3, alpha=6, **LORA),
    "lora2": gw.LoRA(rank=2, **LORA),
    "dora": gw.DoRA(rank=2, **LORA),
    "ia3": gw.IA3(**LORA, feedforward=("output.dense", "c_fc")),
    "vera": gw.VeRA(rank=4, **LORA),
    "own": gw.Houlsby(bottleneck_size=3),
}
FUSIBLE = ("p", "q", "wide", "par", "std", "low", "slow", "gated", "half", "lora", "lora2", "dora", "ia3", "vera")


AT_PROJECTIONS = ("lora", "lora2", "dora", "ia3", "vera")


@functools.lru_cache
def lab(model: str) -> Lab:
    made = Lab(model)
    for name, config in ADAPTERS.items():
        made.add(name, config)
    made.add_fusion(gw.Fuse(*FUSIBLE, name="f"))
    made.add_fusion(gw.Fuse(*FUSIBLE, name="g"), query="output", residual_before=True)
    made.add_fusion(gw.Fuse(*FUSIBLE, name="static"), value=False)
    return made


# -- random compositions -----------------------------------------------------------------------------------------------


@st.composite
def compositions(draw: Any, rows: int = ROWS, positions: int = POSITIONS, depth: int = 3, inside: str = "") -> Any:
    """A composition for so many rows and positions; ``inside`` is the kind of what is around it.

    Adapters with norms of their own are not weighed: that is refused.
    """
    without = tuple(ADAPTERS)[:-1]
    names = {"": tuple(ADAPTERS), "split": without, "average": without, "fuse": FUSIBLE}[inside]
    leaf = st.sampled_from((*names, None))
    if depth == 0 or rows == 0 or draw(st.integers(0, 3)) == 0:
        return draw(leaf)

    def children(count: int, inside: str = inside, rows: int = rows, positions: int = positions) -> list[Any]:
        return [draw(compositions(rows, positions, depth - 1, inside)) for _ in range(count)]

    count = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["stack", "average", "fuse", "batch_split", "ragged", "mixed", "split", "drop"]))
    if kind == "stack":
        return gw.Stack(*children(count))
    if kind == "drop":
        return gw.Drop(*children(1), layers=draw(st.sampled_from([0, 1, 2, (0,), (1,), (0, 1)])))
    if kind == "average":
        weights = draw(st.none() | st.lists(st.sampled_from([0.5, -0.3, 1.0, 2.0]), min_size=count, max_size=count))
        normalize = draw(st.booleans()) and (weights is None or abs(sum(weights)) > 0.1)
        return gw.Average(
            *children(count, inside if inside == "fuse" else "average"), weights=weights, normalize=normalize
        )
    if kind == "fuse":
        members = children(count, "fuse")
        members[0] = draw(st.sampled_from(FUSIBLE))
        alike = AT_PROJECTIONS if members[0] in AT_PROJECTIONS else ["p", "par", "slow"]
        members.append(draw(st.sampled_from(alike)))  # so that there is always something to choose
        return gw.Fuse(*members, name=draw(st.sampled_from(["f", "g", "static"])))
    if kind == "split":
        cuts = sorted(draw(st.lists(st.integers(0, positions), min_size=count - 1, max_size=count - 1)))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, positions], strict=True)]
        parts = [draw(compositions(rows, size, depth - 1, inside or "split")) for size in sizes]
        return gw.Split(*parts, splits=sizes)
    if kind == "mixed":
        return gw.MixedBatch([draw(compositions(1, positions, depth - 1, inside)) for _ in range(rows)])
    if kind == "ragged":
        size = draw(st.integers(1, 3))
        count = max(count, -(-rows // size))
        shares = [max(0, min(size, rows - n * size)) for n in range(count)]
        return gw.BatchSplit(*(draw(compositions(r, positions, depth - 1, inside)) for r in shares), batch_sizes=size)
    cuts = sorted(draw(st.lists(st.integers(0, rows), min_size=count - 1, max_size=count - 1)))
    shares = [b - a for a, b in zip([0, *cuts], [*cuts, rows], strict=True)]
    return gw.BatchSplit(*(draw(compositions(r, positions, depth - 1, inside)) for r in shares), batch_sizes=shares)


@st.composite
def replicated(draw: Any) -> Any:
    """A `Replicate`, alone or in a Stack."""
    count = draw(st.integers(1, 3))
    block = gw.Replicate(*(draw(compositions(depth=1)) for _ in range(count)))
    around = draw(st.lists(compositions(rows=ROWS * count, depth=1), max_size=2))
    return gw.Stack(*around[:1], block, *around[1:]) if around else block


@settings(max_examples=80)
@given(compositions() | replicated())
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_any_composition_is_what_it_says(model: str, composition: Any) -> None:
    here = lab(model)
    with torch.no_grad():
        close(here.run(composition), here.expect(composition), 1e-9)


@settings(max_examples=25)
@given(compositions(depth=2))
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_gradients_of_any_composition(model: str, composition: Any) -> None:
    here = lab(model)
    weights = [
        p for n in (*ADAPTERS, "f", "g", "static") for m in here.adapters.modules_of(n).values() for p in m.parameters()
    ]
    weights += [p for m in here.adapters.norms_of("own").values() for p in m.parameters()]
    for p in weights:
        p.requires_grad_(True)

    def gradients(output: Tensor) -> list[Tensor]:
        if not output.requires_grad:
            return []
        found = torch.autograd.grad(output.square().mean(), weights, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]

    actual, expected = gradients(here.run(composition)), gradients(here.expect(composition))
    if actual and expected:
        largest = max(float(g.abs().max()) for g in expected)
        for mine, wanted in zip(actual, expected, strict=True):
            assert float((mine - wanted).abs().max()) <= 1e-9 * max(largest, 1e-9)
    else:
        assert not any(g.any() for g in [*actual, *expected])


@settings(max_examples=100)
@given(compositions() | replicated())
def test_compositions_are_values(composition: Any) -> None:
    again = gw.composition_from_dict(json.loads(json.dumps(gw.composition_to_dict(composition))))
    assert again == composition
    assert hash(again) == hash(composition)
    assert repr(again) == repr(composition)


# -- the laws, one by one ----------------------------------------------------------------------------------------------

MODELS = pytest.mark.parametrize("model", ["bert", "gpt2"])


def equal(model: str, one: Any, other: Any, tolerance: float = 1e-10) -> None:
    here = lab(model)
    with torch.no_grad():
        close(here.run(one), here.run(other), tolerance)


def differ(model: str, one: Any, other: Any) -> None:
    here = lab(model)
    with torch.no_grad():
        assert float((here.run(one) - here.run(other)).abs().max()) > 1e-3


@MODELS
@pytest.mark.parametrize("name", ADAPTERS)
def test_the_average_of_two_identical_adapters_is_the_adapter(model: str, name: str) -> None:
    equal(model, gw.Average(name, name), name)
    equal(model, gw.Average(name, name, name, weights=[1, 2, 5]), name)


@MODELS
def test_weights_of_an_average(model: str) -> None:
    equal(
        model, gw.Average("p", "slow", weights=[1, 3]), gw.Average("p", "slow", weights=[0.25, 0.75], normalize=False)
    )
    equal(model, gw.Average("p", "q", weights=[1, 0]), "p")
    differ(model, gw.Average("p", "q", weights=[1, 1], normalize=False), gw.Average("p", "q"))
    differ(model, gw.Average("p", "q", weights=[1, 2]), gw.Average("p", "q", weights=[2, 1]))


@MODELS
@pytest.mark.parametrize("names", [("slow", "p", "gated"), ("p", "slow", "q"), ("slow", None, "std")], ids=str)
def test_weights_of_an_average_follow_their_children(model: str, names: tuple[str | None, ...]) -> None:
    here, block = lab(model), gw.Average(*names, weights=[0.2, 0.5, -1.4], normalize=False)
    with torch.no_grad():
        close(here.run(block), here.expect(block), 1e-10)


@MODELS
def test_half_and_nothing_is_half(model: str) -> None:
    equal(model, gw.Average("slow", None), gw.Average("slow", weights=[0.5], normalize=False))


@MODELS
def test_none_is_the_base(model: str) -> None:
    for nothing in (
        gw.Stack(None),
        gw.Average(None, None),
        gw.MixedBatch([None] * ROWS),
        gw.Stack(None, gw.Stack(None)),
    ):
        with torch.no_grad():
            assert torch.equal(lab(model).run(nothing), lab(model).run(None))
    equal(model, gw.Stack("p", None), "p", 0)
    equal(model, gw.Stack(None, "own"), "own", 0)
    with torch.no_grad():
        rows = lab(model).run(gw.MixedBatch([None, "own", None]))
        close(rows[[0, 2]], lab(model).run(None)[[0, 2]], 1e-12)


@MODELS
def test_a_stack_of_one_is_that_one_and_stacks_associate(model: str) -> None:
    equal(model, gw.Stack("std"), "std", 0)
    equal(model, gw.Stack("p", gw.Stack("slow", "par")), gw.Stack(gw.Stack("p", "slow"), "par"))
    equal(model, gw.Stack("p", gw.Stack("slow", "par")), gw.Stack("p", "slow", "par"))


@MODELS
def test_the_order_of_a_stack_matters_where_one_reads_what_the_other_wrote(model: str) -> None:
    differ(model, gw.Stack("p", "q"), gw.Stack("q", "p"))
    differ(model, gw.Stack("p", "std"), gw.Stack("std", "p"))
    equal(model, gw.Stack("par", "entry"), gw.Stack("entry", "par"))  # both read what nobody wrote


ALONE = (
    ["p", None, "own"],
    ["std", "plus", "between"],
    ["slow", "gated", "par"],
    ["half", "wide", "entry"],
    ["lora", "p", "dora"],
    ["ia3", "vera", "own"],
    ["p", "q", "p"],
)


@MODELS
@pytest.mark.parametrize("names", ALONE, ids=str)
def test_each_row_of_a_batch_is_as_if_alone(model: str, names: list[str | None]) -> None:
    here = lab(model)
    with torch.no_grad():
        mixed = here.run(gw.MixedBatch(names))
        split = here.run(gw.BatchSplit(*names, batch_sizes=[1, 1, 1]))
        ragged = here.run(gw.BatchSplit(*names, batch_sizes=1))
        for row, name in enumerate(names):
            own = {k: v[row : row + 1] for k, v in here.inputs.items()}
            alone = here.run(name, **own)
            for batch in (mixed, split, ragged):
                close(batch[row : row + 1], alone, 1e-10)


NESTED = (
    (gw.Stack("p", "std"), "slow"),
    (gw.Average("p", "slow"), gw.Fuse("p", "par", name="f")),
    ("own", gw.Stack("own", "p")),
)


@MODELS
@pytest.mark.parametrize("children", NESTED, ids=repr)
def test_a_block_by_rows_is_its_parts(model: str, children: tuple[Any, Any]) -> None:
    here = lab(model)
    with torch.no_grad():
        parts = [here.run(child) for child in children]
        split = here.run(gw.BatchSplit(*children, batch_sizes=[2, 1]))
        close(split, torch.cat([parts[0][:2], parts[1][2:]]), 1e-10)
        ragged = here.run(gw.BatchSplit(*children, batch_sizes=2))  # the last one has room for two and gets one
        close(ragged, split, 1e-12)
        close(here.run(gw.Replicate(*children)), torch.cat(parts), 1e-10)


@MODELS
def test_many_rows_and_few_adapters(model: str) -> None:
    here = lab(model)
    names = ["p", "slow", "q", None, "p", "own", "q", "q", "par", "half", None, "p"]
    inputs = {k: v.repeat(4, 1) for k, v in here.inputs.items()}
    with torch.no_grad():
        mixed = here.run(gw.MixedBatch(names), **inputs)
        for name in set(names):
            rows = [n for n, owner in enumerate(names) if owner == name]
            close(mixed[rows], here.run(name, **inputs)[rows], 1e-10)


@MODELS
def test_positions_of_a_split(model: str) -> None:
    """In the last layer alone, so that attention does not carry one part into the other."""
    here = Lab(model)
    for name in ("a", "b"):
        here.add(name, gw.Pfeiffer(bottleneck_size=4, leave_out=(0,)))
    with torch.no_grad():
        split = here.run(gw.Split("a", None, "b", splits=[3, 1, 3]))
        close(split[:, :3], here.run("a")[:, :3], 1e-10)
        close(split[:, 3:4], here.run(None)[:, 3:4], 1e-12)
        close(split[:, 4:], here.run("b")[:, 4:], 1e-10)


@MODELS
def test_different_sites_in_one_composition(model: str) -> None:
    here = lab(model)
    with torch.no_grad():
        differ(model, gw.Average("entry", "half"), gw.Average("entry", None))
        close(here.run(gw.Average("entry", "half")), here.expect(gw.Average("entry", "half")), 1e-10)


def test_left_out_layers_are_the_base() -> None:
    here = lab("bert")
    with torch.no_grad():
        with here.adapters.using("half"):
            states = here.model(**here.inputs, output_hidden_states=True).hidden_states
        plain = here.model(**here.inputs, output_hidden_states=True).hidden_states
    assert torch.equal(states[1], plain[1])
    assert not torch.equal(states[2], plain[2])


def test_using_nests_and_restores_also_after_an_error() -> None:
    here = lab("bert")
    outputs = {name: here.run(name) for name in (None, "p", "q")}
    with here.adapters.using("p"):
        with pytest.raises(ZeroDivisionError), here.adapters.using("q"):
            assert torch.equal(here.model(**here.inputs).last_hidden_state, outputs["q"])
            raise ZeroDivisionError
        assert torch.equal(here.model(**here.inputs).last_hidden_state, outputs["p"])
        with here.adapters.using(None):
            assert torch.equal(here.model(**here.inputs).last_hidden_state, outputs[None])
    assert torch.equal(here.model(**here.inputs).last_hidden_state, outputs[None])


# -- norms of one's own ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def norms() -> Lab:
    made = Lab("bert")
    for name in ("h1", "h2"):
        made.add(name, gw.Houlsby(bottleneck_size=3))
    made.add("p", gw.Pfeiffer(bottleneck_size=3))
    return made


@pytest.mark.parametrize(
    "composition",
    [
        gw.Stack("h1", "h2"),
        gw.Stack("h2", "h1", "p"),
        gw.MixedBatch(["h2", None, "h1"]),
        gw.BatchSplit("h1", gw.Stack("h2", "h1"), batch_sizes=[1, 2]),
        gw.MixedBatch([gw.Stack("p", "h1"), gw.Stack("h1", "p"), "p"]),
        gw.Replicate("h1", "h2", None),
        gw.Stack(gw.BatchSplit("h1", None, batch_sizes=[1, 2]), "h2"),
        gw.Average("h1", "h2", norms="base"),
        gw.BatchSplit(gw.Average("h1", "h2", norms="base"), "h1", batch_sizes=[1, 2]),
    ],
    ids=repr,
)
def test_norms_of_ones_own(norms: Lab, composition: gw.Block) -> None:
    with torch.no_grad():
        close(norms.run(composition), norms.expect(composition), 1e-10)


@pytest.mark.parametrize(
    "composition",
    [gw.Stack("h1", gw.BatchSplit("h2", None, batch_sizes=[1, 2])), gw.Stack("h1", gw.MixedBatch(["h2", "p", None]))],
    ids=repr,
)
def test_a_row_that_overrides_no_norm_keeps_that_of_the_stack_below(norms: Lab, composition: gw.Block) -> None:
    with torch.no_grad():
        close(norms.run(composition), norms.expect(composition), 1e-10)


# -- generating --------------------------------------------------------------------------------------------------------


def generator_of(name: str) -> tuple[Any, gw.Adapters, dict[str, Tensor]]:
    zoo = build(name, torch.float64)
    adapters = gw.attach(zoo.model, sites=sites_of_generator(name))
    for n, config in enumerate(
        (gw.Pfeiffer(bottleneck_size=4), gw.Houlsby(bottleneck_size=3, gate=True), gw.Parallel(bottleneck_size=4))
    ):
        adapters.add("abc"[n], config)
        unsettle([*adapters.modules_of("abc"[n]).values(), *adapters.norms_of("abc"[n]).values()], n, 0.5)
    adapters.add_fusion(gw.Fuse("a", "c", name="f"))
    unsettle([*adapters.modules_of("f").values()], 9, 0.5)
    prompts = {"input_ids": torch.randint(4, 100, (3, 4), generator=torch.Generator().manual_seed(2))}
    return zoo.model, adapters, prompts


@functools.lru_cache
def sites_of_generator(name: str) -> gw.SiteMap:
    return gw.discover(build(name).model)


@pytest.fixture(scope="module", params=["llama_causal", "t5_generation", "bart_generation"])
def speaker(request: pytest.FixtureRequest) -> tuple[Any, gw.Adapters, dict[str, Tensor]]:
    return generator_of(request.param)


BLOCKS = {
    "mixed": (gw.MixedBatch(["a", None, "b"]), ["a", None, "b"]),
    "mixed with blocks": (
        gw.MixedBatch([gw.Stack("a", "b"), gw.Fuse("a", "c", name="f"), "c"]),
        [gw.Stack("a", "b"), gw.Fuse("a", "c", name="f"), "c"],
    ),
    "split": (gw.BatchSplit("b", "a", batch_sizes=[1, 2]), ["b", "a", "a"]),
    "nested": (
        gw.BatchSplit(gw.BatchSplit("b", "c", batch_sizes=[1, 1]), "a", batch_sizes=[2, 1]),
        ["b", "c", "a"],
    ),
}


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("block", BLOCKS)
def test_generating_with_a_cache_is_as_each_row_alone(speaker: Any, block: str, beams: int) -> None:
    model, adapters, prompts = speaker
    composition, alone = BLOCKS[block]
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "num_beams": beams, "pad_token_id": 1}
    with adapters.using(composition):
        together = model.generate(**prompts, **options)
    plain = model.generate(**prompts, **options)
    for row, own in enumerate(alone):
        for cache in (True, False):
            with adapters.using(own):
                single = model.generate(input_ids=prompts["input_ids"][row : row + 1], **options, use_cache=cache)
            assert torch.equal(together[row : row + 1], single)
    assert not torch.equal(together, plain)  # the adapters did something


@pytest.mark.parametrize("beams", [1, 2])
def test_generating_without_a_cache(speaker: Any, beams: int) -> None:
    model, adapters, prompts = speaker
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "num_beams": beams, "pad_token_id": 1}
    with adapters.using(gw.MixedBatch(["a", None, "b"], beams=beams)):
        without = model.generate(**prompts, **options, use_cache=False)
        assert torch.equal(without, model.generate(**prompts, **options, use_cache=True))


def test_one_number_as_batch_sizes_cannot_be_told_from_beams(speaker: Any) -> None:
    """Three rows, two beams each, two rows an adapter: rows counted as they come would go to the wrong ones."""
    model, adapters, prompts = speaker
    options = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2, "pad_token_id": 1}
    block = gw.BatchSplit("a", "b", "c", batch_sizes=2)
    with adapters.using(block), pytest.raises(gw.CompositionError, match="rows from beams; give one number a child"):
        model.generate(**prompts, **options)


def test_replicate_refuses_to_generate(speaker: Any) -> None:
    model, adapters, prompts = speaker
    with adapters.using(gw.Replicate("a", "b")), pytest.raises(gw.CompositionError, match="use MixedBatch"):
        model.generate(**prompts, max_new_tokens=2, pad_token_id=1)
