"""Merged adapters: averages and task arithmetic of the weights, with norms, shared tensors and heads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.contract.cases import METHODS, STANDS_NOWHERE, Case
from tests.support.attached import bert_classifier, ids, lively, made, output

INPUTS = {"input_ids": ids()}


def setup(config: gw.AdapterConfig | None = None, names: str = "abc", **model: Any) -> tuple[Any, gw.Adapters]:
    made_ = bert_classifier(**model)
    adapters = gw.attach(made_)
    for n, name in enumerate(names):
        adapters.add(name, config or gw.Pfeiffer(reduction_factor=4))
        lively(adapters, name, seed=n)
    return made_, adapters


def tensors(adapters: gw.Adapters, name: str, head: bool = True) -> list[Tensor]:
    shared = adapters.shared_of(name)
    modules: list[nn.Module] = [*adapters.modules_of(name).values(), *adapters.norms_of(name).values()]
    modules += [] if shared is None else [shared]
    modules += adapters.head_of(name).values() if head else []
    return [p.detach() for m in modules for p in m.parameters()]


def run(model: Any, adapters: gw.Adapters, composition: gw.Composition, **how: Any) -> Tensor:
    with adapters.using(composition, **how):
        return output(model, INPUTS)


# -- every method ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_merges_with_all_that_it_owns(method: str) -> None:
    if (method, "bert") in STANDS_NOWHERE:
        pytest.skip(STANDS_NOWHERE[method, "bert"])
    here = Case(method, "bert")
    here.unsettle("a")
    here.adapters.merge("mean", ["a", "b"])
    here.adapters.merge("odd", {"a": 0.25, "b": 0.75})
    one, two = tensors(here.adapters, "a"), tensors(here.adapters, "b")
    for weights, name in (((0.5, 0.5), "mean"), ((0.25, 0.75), "odd")):
        merged = tensors(here.adapters, name)
        assert len(merged) == len(one) > 0
        for a, b, both in zip(one, two, merged, strict=True):
            assert torch.equal(both, (weights[0] * a.double() + weights[1] * b.double()).to(both.dtype))
    here.adapters.merge("copy", {"b": 1.0})
    with torch.no_grad():
        assert torch.equal(here.run("copy"), here.run("b"))
        assert not torch.equal(here.run("mean"), here.run("b"))


# -- what it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [gw.Houlsby(bottleneck_size=4), gw.Compacter(bottleneck_size=8, norms="own")])
def test_it_is_an_adapter_of_its_own(config: gw.AdapterConfig, tmp_path: Any) -> None:
    model, adapters = setup(config)
    adapters.train_only("a")
    before = [t.clone() for t in tensors(adapters, "a")]
    adapters.merge("m", ["a", "b", "c"])
    assert adapters.config("m") == config
    assert not any(p.requires_grad for m in adapters.modules_of("m").values() for p in m.parameters())
    assert not any(m.trainable for m in adapters.modules_of("m").values())
    alone = run(model, adapters, "m")
    lively(adapters, "a", seed=9)
    lively(adapters, "b", seed=9)
    assert torch.equal(run(model, adapters, "m"), alone)  # it refers to none of those that it was made of
    adapters.train_only("m")
    model(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert not all(torch.equal(x, y) for x, y in zip(before, tensors(adapters, "m"), strict=True))
    adapters.save("m", tmp_path / "m")
    again, more = setup(config)
    more.load(tmp_path / "m")
    assert torch.equal(run(again, more, "m"), alone)
    adapters.active = None
    adapters.remove("m")
    assert adapters.names == ("a", "b", "c")


def test_where_the_output_is_linear_in_the_weights_it_is_the_average_of_outputs() -> None:
    """A bottleneck is not, but where the up-projection is zero its bias alone is left."""
    model, adapters = setup(gw.Pfeiffer(reduction_factor=4))
    with torch.no_grad():
        for name in "abc":
            for module in adapters.modules_of(name).values():
                module.up_weight().zero_()
    adapters.merge("m", {"a": 0.5, "b": 0.25, "c": 0.25})
    average = gw.Average("a", "b", "c", weights=[0.5, 0.25, 0.25])
    torch.testing.assert_close(
        run(model, adapters, "m", head=None), run(model, adapters, average, head=None), rtol=1e-5, atol=1e-6
    )


# -- task arithmetic ---------------------------------------------------------------------------------------------------


def test_arithmetic_is_on_what_was_learned_since_the_start() -> None:
    _, adapters = setup(gw.Houlsby(bottleneck_size=4), names="sab")
    adapters.merge("m", {"a": 0.7, "b": -0.4}, start="s")
    for s, a, b, m in zip(*(tensors(adapters, n) for n in "sabm"), strict=True):
        s, a, b = s.double(), a.double(), b.double()
        torch.testing.assert_close(m.double(), s + 0.7 * (a - s) - 0.4 * (b - s), rtol=1e-5, atol=1e-6)


def test_without_a_start_weights_count_from_zero_and_norms_from_the_base() -> None:
    model, adapters = setup(gw.Houlsby(bottleneck_size=4))
    adapters.merge("m", {"a": -1.0}, head_from="b")
    for path, norm in adapters.norms_of("m").items():
        base, own = model.bert.get_submodule(path), adapters.norms_of("a")[path]
        for x, b, m in zip(own.parameters(), base.parameters(), norm.parameters(), strict=True):
            torch.testing.assert_close(m, 2 * b - x)
    for site, module in adapters.modules_of("m").items():
        for x, m in zip(adapters.modules_of("a")[site].parameters(), module.parameters(), strict=True):
            assert torch.equal(m, -x)


def test_nothing_learned_adds_nothing() -> None:
    model, adapters = setup(names="sa")
    adapters.merge("m", {"a": 1.0, "s": -1.0}, start="s")
    adapters.merge("n", {"a": 1.0, "s": 0.5}, start="s")
    assert torch.equal(run(model, adapters, "m"), run(model, adapters, "a"))
    assert torch.equal(run(model, adapters, "n"), run(model, adapters, "a"))


# -- heads -------------------------------------------------------------------------------------------------------------


def test_a_head_by_name() -> None:
    model, adapters = setup()
    adapters.add_head("b", 5)
    merged = adapters.merge("m", ["a", "b"], head_from="b")
    assert merged.head == ("b",)
    assert run(model, adapters, "m").shape == (4, 5)
    theirs = [p for m in adapters.head_of("b").values() for p in m.parameters()]
    assert all(torch.equal(p, q) for p, q in zip(tensors(adapters, "m")[-len(theirs) :], theirs, strict=True))
    with pytest.raises(gw.ConfigError, match=r"predict other labels.*head_from='a'"):
        adapters.merge("n", ["a", "b"])
    with pytest.raises(gw.ConfigError, match=r"add up to 0.*head_from='a'"):
        adapters.merge("n", {"a": 1.0, "c": -1.0})
    with pytest.raises(gw.UnknownNameError, match="no head is called 'z'"):
        adapters.merge("n", ["a", "b"], head_from="z")
    assert adapters.names == ("a", "b", "c", "m")


def test_heads_on_a_base_without_one() -> None:
    import transformers as hf

    from tests.support.attached import SMALL

    adapters = gw.attach(gw.ModelWithHeads(made(hf.BertModel, hf.BertConfig(**SMALL))))
    for n, name in enumerate("abc"):
        adapters.add(name, gw.Pfeiffer(reduction_factor=4))
        if name != "c":
            adapters.add_head(name, gw.heads.Classification(labels=3))
        lively(adapters, name, seed=n)
    merged = adapters.merge("m", ["a", "b"])
    assert merged.head == ("a", "b")
    assert adapters.head_config("m") == adapters.head_config("a")
    for a, b, m in zip(
        *([p for h in adapters.head_of(n).values() for p in h.parameters()] for n in "abm"), strict=True
    ):
        torch.testing.assert_close(m, (a + b) / 2)
    with pytest.raises(gw.ConfigError, match="'a' has a head and 'c' has none"):
        adapters.merge("n", ["a", "c"])
    assert adapters.merge("n", ["c"]).head == ()
    adapters.add_head("c", gw.heads.Regression())
    with pytest.raises(gw.ConfigError, match="the heads of 'a' and 'c'"):
        adapters.merge("o", ["a", "c"])


# -- how alike they are ------------------------------------------------------------------------------------------------


def test_the_summary_says_how_alike_they_are() -> None:
    _, adapters = setup(names="sa")
    adapters.merge("less", {"a": -1.0}, start="s", head_from="a")
    merged = adapters.merge("m", ["a", "less"], head_from="a")
    flat = [torch.cat([t.flatten().double() for t in tensors(adapters, n, head=False)]) for n in ("a", "less")]
    alike = merged.alike["a", "less"]
    assert math.isclose(alike.cosine, float(torch.cosine_similarity(*flat, dim=0)), rel_tol=1e-9)
    assert math.isclose(alike.signs, float((flat[0].sign() == flat[1].sign()).double().mean()), rel_tol=1e-6)
    since = adapters.merge("n", ["a", "less"], start="s", head_from="a").alike["a", "less"]
    assert since.cosine == pytest.approx(-1.0)  # what was learned since the start, and its opposite
    assert since.signs < 0.01
    assert "n = 0.5 · a + 0.5 · less" in str(adapters.merge("o", ["a", "less"], head_from="a")).replace("o =", "n =")
    assert "equal signs" in str(merged)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "options", "error", "says"),
    [
        (["a", "x"], {}, gw.ConfigError, r"'a' and 'x' cannot be merged: reduction_factor is 4 and 8.*Average"),
        (["a", "h"], {}, gw.ConfigError, "method is 'pfeiffer' and 'houlsby'"),
        (["a", "nobody"], {}, gw.UnknownNameError, "no adapter is called 'nobody'"),
        ({"a": 1.0, "b": 0.2}, {"start": "nobody"}, gw.UnknownNameError, "no adapter is called 'nobody'"),
        ({"a": 1.0, "b": 0.2}, {"start": "x"}, gw.ConfigError, "'a' and 'x' cannot be merged"),
        ([], {}, gw.ConfigError, "one adapter or more"),
        (["a", "a"], {}, gw.ConfigError, "each once"),
        ("a", {}, gw.ConfigError, "names with weights, not 'a'"),
        ({"a": float("nan")}, {}, gw.ConfigError, "weight of 'a' is nan"),
        ({"a": True}, {}, gw.ConfigError, "weight of 'a' is True"),
    ],
)
def test_what_cannot_be_merged_is_refused_and_leaves_nothing(of: Any, options: Any, error: Any, says: str) -> None:
    model, adapters = setup()
    adapters.add("x", gw.Pfeiffer(reduction_factor=8))
    adapters.add("h", gw.Houlsby(bottleneck_size=8))
    before = list(model.state_dict())
    with pytest.raises(error, match=says):
        adapters.merge("m", of, **options)
    assert list(model.state_dict()) == before
    assert adapters.names == ("a", "b", "c", "x", "h")


def test_a_name_that_is_taken_is_refused() -> None:
    _, adapters = setup()
    with pytest.raises(gw.NameTakenError, match="'b' is there already"):
        adapters.merge("b", ["a", "b"])
