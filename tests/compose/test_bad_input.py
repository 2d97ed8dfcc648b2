"""What cannot be is refused where it is said: the error names the value, the place and the way out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import graftwork as gw
from tests.zoo.models import build, clone_inputs

Bad = Callable[[gw.Adapters], Any]


def use(composition: Any) -> Bad:
    """Run the model under a composition."""

    def run(adapters: gw.Adapters) -> Any:
        with adapters.using(composition):
            return adapters.model(input_ids=torch.full((3, 7), 5))

    return run


def activate(composition: Any) -> Bad:
    return lambda adapters: setattr(adapters, "active", composition)


@pytest.fixture(scope="module")
def adapters() -> gw.Adapters:
    adapters = gw.attach(build("bert").model)
    for name in ("a", "b", "c", "free"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=3))
    adapters.add("attn", gw.Standard(sites=("attention",), bottleneck_size=3))
    adapters.add("between", gw.BapnaFirat(bottleneck_size=3))
    adapters.add("plus", gw.AdapterPlus(bottleneck_size=3))
    for name in ("h1", "h2"):
        adapters.add(name, gw.Houlsby(bottleneck_size=3))
    adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
    return adapters


F = gw.Fuse
CASES: dict[str, tuple[Bad, type[Exception], tuple[str, ...]]] = {
    # names
    "taken": (lambda g: g.add("a", gw.Pfeiffer()), gw.NameTakenError, ("'a'", "choose another name", "remove('a')")),
    "taken by a fusion": (lambda g: g.add("ab", gw.Pfeiffer()), gw.NameTakenError, ("'ab'", "choose another name")),
    "fusion taken": (lambda g: g.add_fusion(F("a", "c", name="ab")), gw.NameTakenError, ("'ab'", "remove('ab')")),
    "fusion named as an adapter": (lambda g: g.add_fusion(F("a", "c", name="b")), gw.NameTakenError, ("'b'",)),
    "empty": (lambda g: g.add("", gw.Pfeiffer()), gw.ConfigError, ("''", "give a text")),
    "blank": (lambda g: g.add("  ", gw.Pfeiffer()), gw.ConfigError, ("'  '", "give a text")),
    "spaces around": (lambda g: g.add("x ", gw.Pfeiffer()), gw.ConfigError, ("'x '", "without spaces")),
    "no text": (lambda g: g.add(3, gw.Pfeiffer()), gw.ConfigError, ("3", "give a text")),
    "control characters": (lambda g: g.add("a\nb", gw.Pfeiffer()), gw.ConfigError, ("'a\\nb'", "use plain text")),
    # options that do not fit the model
    "layer left out": (
        lambda g: g.add("x", gw.Pfeiffer(leave_out=[7])),
        gw.ConfigError,
        ("Pfeiffer", "leave_out", "7", "encoder.layer 0 to 1"),
    ),
    "layer of a size": (
        lambda g: g.add("x", gw.Pfeiffer(reduction_factor={"5": 2, "default": 4})),
        gw.ConfigError,
        ("Pfeiffer", "reduction_factor", "'5'", "encoder.layer 0 to 1"),
    ),
    "layer without a size": (
        lambda g: g.add("x", gw.Pfeiffer(bottleneck_size={"0": 2})),
        gw.ConfigError,
        ("Pfeiffer", "bottleneck_size", "layer 1", "'default'"),
    ),
    "every layer left out": (
        lambda g: g.add("x", gw.Pfeiffer(leave_out=[0, 1])),
        gw.SiteError,
        ("Pfeiffer", "feed_forward", "leave_out not every layer"),
    ),
    "kind that is not there": (
        lambda g: g.add("x", gw.Bottleneck(sites=("cross_attention",))),
        gw.SiteError,
        ("Bottleneck", "cross_attention", "attention, feed_forward, layer"),
    ),
    # what is active
    "not there": (activate("aa"), gw.UnknownNameError, ("'aa'", "did you mean 'a'")),
    "not there, deep inside": (
        activate(gw.Stack("a", gw.Average("b", gw.MixedBatch(["zebra"])))),
        gw.UnknownNameError,
        ("'zebra'", "there are: 'a', 'b'"),
    ),
    "no composition": (
        activate(["a", "b"]),
        gw.CompositionError,
        ("['a', 'b']", "give an adapter's name, None, or a block"),
    ),
    "head that is not there": (lambda g: g.using("a", head="zebra").__enter__(), gw.UnknownNameError, ("'zebra'",)),
    "remove what is not there": (lambda g: g.remove("zebra"), gw.UnknownNameError, ("'zebra'", "there are:")),
    "remove from a pool": (lambda g: g.remove("a"), gw.CompositionError, ("'a'", "fusion 'ab'", "remove that first")),
    "train what is not there": (lambda g: g.train_only("zebra"), gw.UnknownNameError, ("'zebra'", "there are:")),
    "train several": (lambda g: g.train_only(["a", "b"]), gw.ConfigError, ("['a', 'b']", "give active=")),
    "train on another base": (
        lambda g: g.train_only("a", base="all"),
        gw.ConfigError,
        ("'all'", "frozen, norms, trained"),
    ),
    # fusions
    "fusion of what is not there": (
        lambda g: g.add_fusion(F("a", "zebra")),
        gw.UnknownNameError,
        ("'zebra'", "there are:"),
    ),
    "fusion that is no block": (lambda g: g.add_fusion("ab"), gw.CompositionError, ("'ab'", "gw.Fuse(")),
    "fusion without weights": (activate(F("a", "c")), gw.UnknownNameError, ("'a+c'",)),
    "fusion without weights at a site": (
        activate(F("a", "attn", "b", name="ab")),
        gw.CompositionError,
        ("'ab'", "encoder.layer.0.attention", "add_fusion("),
    ),
    "fusion that meets nowhere": (
        lambda g: g.add_fusion(F("attn", "a", name="x")),
        gw.CompositionError,
        ("Fuse('attn', 'a'", "share no site", "use Stack"),
    ),
    "fusion of a branch and the stream": (
        lambda g: g.add_fusion(F("a", "plus", name="x")),
        gw.CompositionError,
        ("Fuse('a', 'plus'", "encoder.layer.0.feed_forward", "'plus' into the stream", "Stack"),
    ),
    # norms of one's own
    "norms averaged": (activate(gw.Average("h1", "h2")), gw.CompositionError, ("Average('h1', 'h2'", 'norms="base"')),
    "norms averaged with the base's": (
        activate(gw.Stack("b", gw.Average("h1", "a"))),
        gw.CompositionError,
        ("Average('h1', 'a'", 'norms="base"'),
    ),
    "norms fused": (
        lambda g: g.add_fusion(F("h1", "h2", name="x")),
        gw.CompositionError,
        ("Fuse('h1'", 'norms="base"'),
    ),
    # sizes that do not add up; the batch has 3 rows of 7 positions
    "too few rows": (
        use(gw.BatchSplit("a", "b", batch_sizes=[1, 1])),
        gw.CompositionError,
        ("BatchSplit('a', 'b'", "add up to 2", "3 rows", "make them equal"),
    ),
    "too many rows": (
        use(gw.BatchSplit("a", "b", batch_sizes=[2, 2])),
        gw.CompositionError,
        ("add up to 4", "3 rows", "make them equal"),
    ),
    "a multiple of the rows": (
        use(gw.MixedBatch(["a"])),
        gw.CompositionError,
        ("1 rows", "batch has 3", "name every row"),
    ),
    "one number, too small": (
        use(gw.BatchSplit("a", "b", batch_sizes=1)),
        gw.CompositionError,
        ("2 in all", "batch has 3", "smaller batches"),
    ),
    "no rows at all": (
        use(gw.BatchSplit("a", "b", batch_sizes=[0, 0])),
        gw.CompositionError,
        ("add up to 0", "3 rows"),
    ),
    "names of a mixed batch": (
        use(gw.MixedBatch(["a", "b"])),
        gw.CompositionError,
        ("MixedBatch names 2 rows", "batch has 3", "name every row"),
    ),
    "sizes inside": (
        use(gw.BatchSplit(gw.BatchSplit("a", "b", batch_sizes=[1, 1]), "b", batch_sizes=[1, 2])),
        gw.CompositionError,
        ("add up to 2", "batch has 1 rows"),
    ),
    "positions": (
        use(gw.Split("a", "b", splits=[3, 3])),
        gw.CompositionError,
        ("Split('a', 'b'", "add up to 6", "(3, 7, 32)", "padded length"),
    ),
    "a Replicate where rows are given out": (
        activate(gw.BatchSplit(gw.Replicate("a", "b"), "b", batch_sizes=[1, 2])),
        gw.CompositionError,
        ("Replicate", "alone or in a Stack", "BatchSplit"),
    ),
    "two Replicates": (
        activate(gw.Stack(gw.Replicate("a", "b"), gw.Replicate("b", "a"))),
        gw.CompositionError,
        ("Replicate", "give all children to one"),
    ),
    # out of place
    "bind outside": (
        lambda g: (setattr(g, "active", "a"), g.bind(print)),
        gw.AttachError,
        ("bind(fn)", "inside the model's forward"),
    ),
    "a part alone": (
        lambda g: (setattr(g, "active", "a"), g.model.encoder.layer[0](torch.zeros(1, 2, 32))),
        gw.AttachError,
        ("outside the model's forward", "'a'", "adapters.bind(fn)", "adapters.active = None"),
    ),
}


def state(adapters: gw.Adapters) -> tuple[Any, ...]:
    modules = [n for n, _ in adapters.model.named_modules()]
    flags = [p.requires_grad for p in adapters.model.parameters()]
    return (
        adapters.names,
        adapters.fusions,
        modules,
        flags,
        adapters.trainable,
        adapters.runtime.frame,
        adapters.runtime.using,
    )


@pytest.mark.parametrize("case", CASES)
def test_is_refused_and_leaves_everything_as_it_was(adapters: gw.Adapters, case: str) -> None:
    bad, error, said = CASES[case]
    adapters.active = "free"
    before = state(adapters)
    with torch.no_grad():
        wanted = adapters.model(input_ids=torch.full((3, 7), 5)).last_hidden_state
        with pytest.raises(error) as raised:
            bad(adapters)
        assert isinstance(raised.value, gw.GraftworkError)
        for text in said:
            assert text in str(raised.value)
        assert state(adapters) == before
        assert adapters.active == ("free" if case not in ("bind outside", "a part alone") else "a")
        adapters.active = "free"
        assert torch.equal(adapters.model(input_ids=torch.full((3, 7), 5)).last_hidden_state, wanted)


MORE: dict[str, tuple[Bad, str]] = {
    "config by a wrong name": (lambda g: g.add("x", "pfeifer"), "did you mean 'pfeiffer'"),
    "config class": (lambda g: g.add("x", gw.Pfeiffer), "Pfeiffer"),
    "config that is none": (lambda g: g.add("x", None), "None"),
    "fusion's config": (lambda g: g.add_fusion(F("a", "c", name="x"), {"query": "output"}), "FusionConfig"),
    "fusion of both places, nested": (lambda g: g.add_fusion(F("a", gw.Stack("b", "plus"), name="x")), "'plus'"),
    "fusion without weights": (activate(F("a", "c")), "add_fusion("),
}


@pytest.mark.parametrize("case", MORE)
def test_is_refused_in_words_of_ours(case: str) -> None:
    adapters = gw.attach(build("bert").model)
    for name in ("a", "b", "c"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=3))
    adapters.add("plus", gw.AdapterPlus(bottleneck_size=3))
    bad, said = MORE[case]
    with pytest.raises(gw.GraftworkError) as raised:
        bad(adapters)
    assert said in str(raised.value)
    assert (adapters.names, adapters.fusions) == (("a", "b", "c", "plus"), {})


# -- blocks ------------------------------------------------------------------------------------------------------------

BLOCKS: list[tuple[Callable[[], Any], tuple[str, ...]]] = [
    (gw.Stack, ("Stack()", "at least one adapter")),
    (lambda: gw.Stack("a", 3), ("Stack", "3", "an adapter's name, None, or a block")),
    (lambda: gw.Stack(["a", "b"]), ("Stack", "['a', 'b']", "an adapter's name, None, or a block")),
    (lambda: gw.Average("a", "b", weights=[1]), ("Average", "2 children", "1 weights", "one a child")),
    (lambda: gw.Average("a", "b", weights=[1, -1]), ("Average", "[1, -1]", "add up to 0", "normalize=False")),
    (lambda: gw.Average("a", "b", weights=["x", 1]), ("Average", "weights", "'x'", "a number")),
    (lambda: gw.Average("a", "b", weights=2), ("Average", "weights", "2", "one number a child")),
    (lambda: gw.Average("a", "b", weights=[float("nan"), 1]), ("Average", "weights", "nan", "a number")),
    (lambda: gw.Average("a", "b", norms="own"), ("norms", "'own'", "'base'")),
    (lambda: gw.Fuse("a", "b", name=""), ("Fuse", "''", "a text")),
    (lambda: gw.Fuse("a", "b", name=3), ("Fuse", "3", "a text")),
    (lambda: gw.BatchSplit("a", "b", batch_sizes=[1]), ("BatchSplit", "2 children", "1 batch sizes", "one a child")),
    (lambda: gw.BatchSplit("a", "b", batch_sizes=0), ("BatchSplit", "batch_sizes", "0", "1 or more")),
    (lambda: gw.BatchSplit("a", "b", batch_sizes=[1, -1]), ("BatchSplit", "batch_sizes", "-1")),
    (lambda: gw.BatchSplit("a", "b", batch_sizes=[1, 1.5]), ("BatchSplit", "batch_sizes", "1.5", "a whole number")),
    (lambda: gw.BatchSplit("a", "b", batch_sizes=1.5), ("BatchSplit", "batch_sizes", "1.5", "one number a child")),
    (lambda: gw.BatchSplit("a", "b", batch_sizes=None), ("BatchSplit", "batch_sizes", "None", "one number a child")),
    (lambda: gw.MixedBatch("a"), ("MixedBatch", "'a'", "one composition a row")),
    (lambda: gw.MixedBatch(None), ("MixedBatch", "None", "one composition a row")),
    (lambda: gw.MixedBatch(3), ("MixedBatch", "3", "one composition a row")),
    (lambda: gw.MixedBatch([]), ("MixedBatch", "at least one")),
    (lambda: gw.MixedBatch(["a"], beams=0), ("MixedBatch", "beams", "0", "1 or more")),
    (lambda: gw.MixedBatch(["a"], beams="2"), ("MixedBatch", "beams", "'2'", "1 or more")),
    (lambda: gw.Split("a", "b", splits=[1]), ("Split", "2 children", "1 splits", "one a child")),
    (lambda: gw.Split("a", "b", splits=[1, -1]), ("Split", "[1, -1]", "0 or more")),
    (lambda: gw.Split("a", "b", splits=3), ("Split", "splits", "3", "one number a child")),
    (lambda: gw.Split("a", "b", splits=[1, "2"]), ("Split", "splits", "'2'", "a whole number")),
    (
        lambda: gw.Replicate("a", gw.Stack(gw.Replicate("b"))),
        ("Replicate inside a Replicate", "give all children to one"),
    ),
    (lambda: gw.composition_from_dict({"block": "x"}), ("'x'", "stack, average, fuse")),
    (lambda: gw.composition_from_dict({"block": "stack", "children": ["a"], "k": 1}), ("'stack'", "'k'")),
    (lambda: gw.composition_from_dict({"block": "split", "children": ["a"]}), ("'split'", "splits")),
    (lambda: gw.composition_from_dict(3), ("3", "a name, None, or a mapping")),
]


@pytest.mark.parametrize("case", range(len(BLOCKS)))
def test_blocks_refuse(case: int) -> None:
    make, said = BLOCKS[case]
    with pytest.raises(gw.CompositionError) as raised:
        make()
    for text in said:
        assert text in str(raised.value)


def test_blocks_are_immutable() -> None:
    block = gw.Stack("a", "b")
    with pytest.raises(AttributeError, match="immutable"):
        block.children = ("c",)
    assert copy.deepcopy(block) == block != gw.Stack("b", "a")


FUSIONS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"query": "stream"}, ("query", "'stream'", "'normed'")),
    ({"dropout": 1}, ("dropout", "1", "0.0")),
    ({"dropout": "x"}, ("dropout", "'x'", "number")),
    ({"temperature": 0.5}, ("temperature", "0.5", "1.0 or more")),
    ({"temperature": "hot"}, ("temperature", "'hot'", "number")),
    ({"temperature_steps": 0}, ("temperature_steps", "0", "1 or more")),
    ({"temperature_steps": 1.5}, ("temperature_steps", "1.5", "whole number")),
    ({"regularization": -1}, ("regularization", "-1", "0.0 or more")),
    ({"init_std": -1}, ("init_std", "-1", "0.0 or more")),
    ({"value_std": None}, ("value_std", "None", "number")),
    ({"value": "no"}, ("value", "'no'", "True or False")),
    ({"residual_before": 1}, ("residual_before", "1", "True or False")),
    ({"dtype": "int8"}, ("dtype", "'int8'", "'float32'")),
    ({"temprature": 3.0}, ("'temprature'", "'temperature'")),
]


@pytest.mark.parametrize(("options", "said"), FUSIONS, ids=str)
def test_fusion_options_refuse(options: dict[str, Any], said: tuple[str, ...]) -> None:
    for make in (lambda: gw.FusionConfig(**options), lambda: gw.FusionConfig.from_dict(options)):
        with pytest.raises(gw.ConfigError) as raised:
            make()
        for text in ("FusionConfig", *said):
            assert text in str(raised.value)


def test_fusion_options_go_to_json_and_back() -> None:
    config = gw.FusionConfig(query="output", value=False, temperature=3.0, residual_before=True, dtype="bfloat16")
    assert gw.FusionConfig.from_dict(config.to_dict()) == config


# -- models ------------------------------------------------------------------------------------------------------------


def test_a_compiled_model() -> None:
    with pytest.raises(gw.AttachError, match=r"compiled already.*attach first, then compile"):
        gw.attach(torch.compile(build("bert").model))


def test_a_model_compiled_in_place() -> None:
    model = build("bert").model
    model.compile()
    with pytest.raises(gw.AttachError, match=r"the model is compiled already.*attach first"):
        gw.attach(model)


def test_a_model_with_a_compiled_part() -> None:
    model: Any = build("bert").model
    model.encoder.layer[1].compile()
    with pytest.raises(gw.AttachError, match=r"'encoder\.layer\.1' is compiled already.*attach first"):
        gw.attach(model)


def test_a_wrapped_model() -> None:
    with pytest.raises(
        gw.AttachError, match=r"DataParallel, whose replicas do not take adapters along; .*DistributedDataParallel"
    ):
        gw.attach(nn.DataParallel(build("bert").model))


def test_no_model() -> None:
    with pytest.raises(gw.AttachError, match=r"str is no torch\.nn\.Module"):
        gw.attach("bert-base-uncased")  # type: ignore[arg-type]


def test_a_model_without_sites() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    with pytest.raises(gw.SiteError, match=r"(?s)Sequential.*Give the sites by hand.*gw\.attach\(model, sites=sites\)"):
        gw.attach(model, example_inputs=(torch.zeros(2, 3),))
    assert not model._forward_hooks
    assert all(p.requires_grad for p in model.parameters())


def test_sites_that_are_none() -> None:
    with pytest.raises(gw.ConfigError, match=r"give a SiteMap, one or more gw\.Site"):
        gw.attach(build("bert").model, sites=["encoder.layer.0"])  # type: ignore[list-item]
    with pytest.raises(gw.ConfigError, match=r"sites is \(\); give a SiteMap"):
        gw.attach(nn.Sequential(nn.Linear(3, 3)), sites=[])  # without norms there is nothing to make


def test_sites_of_another_model(adapters: gw.Adapters) -> None:
    model = build("gpt2").model
    with pytest.raises(gw.SiteError, match=r"encoder\.layer\.0.*GPT2Model does not have"):
        gw.attach(model, sites=adapters.sites)


def test_other_sites_for_an_attached_model(adapters: gw.Adapters) -> None:
    with pytest.raises(gw.AttachError, match=r"attached already.*detach\(\) it first"):
        gw.attach(adapters.model, sites=list(adapters.sites)[:1])


def test_nothing_attached() -> None:
    with pytest.raises(gw.AttachError, match=r"nothing is attached to this BertModel; call graftwork\.attach"):
        gw.of(build("bert").model)


def test_a_site_that_does_not_say_what_is_read() -> None:
    site = gw.Site("h", 0, "feed_forward", "h.0", gw.Tap("h.0.mlp", "output"), 32)
    adapters = gw.attach(build("gpt2").model, sites=[site])
    with pytest.raises(
        gw.SiteError, match=r"Pfeiffer reads 'normed'.*h\.0\.feed_forward.*'residual'.*gw\.Tap.*reads='output'"
    ):
        adapters.add("a", gw.Pfeiffer())
    assert adapters.names == ()
    adapters.add("a", gw.Pfeiffer(reads="output"))


def test_heads_that_are_several() -> None:
    zoo = build("bert_classifier")
    adapters = gw.attach(zoo.model)
    for name in ("a", "b"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=3))
    with pytest.raises(gw.CompositionError, match=r"Average\('a', 'b'.*say which one.*head='a'"):
        adapters.active = gw.Average("a", "b")
    with adapters.using(gw.Average("a", "b"), head="a"), torch.no_grad():
        assert zoo.model(**clone_inputs(zoo.inputs)).logits.shape == (3, 3)


@pytest.mark.parametrize(
    "option", [{"reduction_factor": {"encoder.layer.0": 4, "default": 8}}, {"leave_out": ("encoder.layer.0",)}]
)
@pytest.mark.parametrize("name", ["bert", "bert_classifier"])
def test_a_layer_has_one_name_in_the_base_model_and_under_a_head(name: str, option: dict[str, Any]) -> None:
    adapters = gw.attach(build(name).model)
    adapters.add("a", gw.Pfeiffer(**option))
    sizes = {key: module.down.shape[0] for key, module in adapters.modules_of("a").items()}
    kept = {"encoder.layer.1.feed_forward": 4 if "default" in str(option) else 2}
    assert sizes == (kept if "leave_out" in option else {"encoder.layer.0.feed_forward": 8, **kept})
