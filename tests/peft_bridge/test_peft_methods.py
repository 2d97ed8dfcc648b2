"""Every configuration of peft is a method: the contract's laws as far as they apply, and equality with peft itself."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from tests.checkpoint.common import edit_json
from tests.peft_bridge.test_peft import lora
from tests.support.attached import assert_same, bert_classifier, ids, lively, output, snapshot
from tests.zoo.models import build, clone_inputs, main_output

peft = pytest.importorskip("peft")

from tests.contract import test_contract as contract  # noqa: E402
from tests.contract.cases import loss, sites_of  # noqa: E402
from tests.support.peft_cases import LIKE_THE_BASE, MODELS, REFUSED, START_AT_THE_BASE, PeftCase, config  # noqa: E402

KINDS = ("lora", "dora", "ia3", "oft", "vera", "miss", "hra", "fourierft", "ln_tuning")
MakeCase = Callable[..., PeftCase]

# The laws of the contract that are said of any adapter, whoever computes it.
test_the_configuration_goes_to_json_and_back = contract.test_the_configuration_goes_to_json_and_back
test_inactive_it_changes_no_bit = contract.test_inactive_it_changes_no_bit
test_three_steps_move_it_and_not_the_base = contract.test_three_steps_move_it_and_not_the_base
test_gradients_reach_all_of_it_and_none_of_the_base = contract.test_gradients_reach_all_of_it_and_none_of_the_base
test_saved_and_loaded_it_is_the_same_bit_for_bit = contract.test_saved_and_loaded_it_is_the_same_bit_for_bit
test_right_padding_never_changes_an_unpadded_position = contract.test_right_padding_never_changes_an_unpadded_position
test_removing_and_detaching_leave_nothing = contract.test_removing_and_detaching_leave_nothing


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, model: str) -> MakeCase:
    kind = str(request.param)
    if (kind, model) in REFUSED:
        pytest.skip(f"peft's {kind} knows no {REFUSED[kind, model]}")
    return lambda dtype=torch.float32: PeftCase(kind, model, dtype)


def as_peft_says(adapters: gw.Adapters, name: str) -> dict[str, Tensor]:
    """The weights of an adapter by the names that peft writes into its own files."""
    named = {}
    for key, tensor in adapters.shared_of(name).state_dict().items():
        path = f"base_model.model.{key}".replace("base_model.model.tuner.", "base_model.")
        named[path.replace("magnitude_vector.weight", "magnitude_vector")] = tensor
    return named


@pytest.mark.parametrize(("kind", "model"), REFUSED)
def test_what_peft_refuses_is_refused_and_leaves_nothing(kind: str, model: str) -> None:
    zoo = build(model)
    adapters = gw.attach(zoo.model, sites=sites_of(model))
    before = snapshot(zoo.model)
    with pytest.raises(gw.ConfigError, match=REFUSED[kind, model]):
        adapters.add("a", config(kind, model), native=False)
    assert_same(before, snapshot(zoo.model))
    assert adapters.names == ()


def test_what_learns_is_what_peft_trains(case: MakeCase) -> None:
    here = case()
    here.adapters.train_only("a")
    learning = {n: p for n, p in here.model.named_parameters() if p.requires_grad}
    assert learning
    assert learning.keys() == here.weights("a").keys()
    row = next(r for r in here.adapters.summary().rows if r.name == "a")
    theirs = peft.get_peft_model(build(here.name).model, config(here.kind, here.name))
    assert sum(p.numel() for p in learning.values()) == row.weights == theirs.get_nb_trainable_parameters()[0]
    assert row.method == f"peft {here.config.kind}"


def test_it_is_what_peft_computes(case: MakeCase) -> None:
    here = case()
    theirs = peft.get_peft_model(build(here.name).model, config(here.kind, here.name)).eval()
    named = as_peft_says(here.adapters, "b")
    assert named.keys() == peft.get_peft_model_state_dict(theirs).keys()
    result = peft.set_peft_model_state_dict(theirs, named)
    assert not result.unexpected_keys
    with torch.no_grad():
        expected = main_output(theirs(**clone_inputs(here.zoo.inputs)))
        assert torch.equal(here.run("b"), expected)
        contract.differ(expected, here.run(None))


def test_it_starts_as_peft_says(case: MakeCase) -> None:
    here = case()
    with torch.no_grad():
        plain, start = here.run(None), here.run("a")
    close = float((start - plain).abs().max()) <= 1e-5 * float(plain.abs().max())
    assert close is (here.kind in START_AT_THE_BASE)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(case: MakeCase, reentrant: bool) -> None:
    here = case()
    here.unsettle("a")
    here.adapters.train_only(["a", "b"], active="a")
    here.model.train()

    expected = here.gradients("a", "b")
    here.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    here.require_gradients(here.gradients("a", "b"), expected)


def test_in_a_bfloat16_base_it_has_peft_s_dtype_and_learns(case: MakeCase) -> None:
    here = case(torch.bfloat16)
    here.adapters.train_only("b")
    result = here.run("b")
    assert result.dtype is torch.bfloat16
    loss(result).backward()
    for name, p in here.weights("b").items():
        assert p.dtype is (torch.bfloat16 if here.kind in LIKE_THE_BASE else torch.float32), name
        assert p.grad is not None and torch.isfinite(p.grad).all(), name


def test_stacked_with_ours_both_compute(case: MakeCase, model: str) -> None:
    """What stands in the model is one model with the other's weights: ours sees what peft's layers make of it."""
    here = case()
    torch.manual_seed(5)
    here.adapters.add("ours", gw.Pfeiffer())
    lively(here.adapters, "ours")
    theirs = build(model).model
    wrapped = peft.get_peft_model(theirs, config(here.kind, model))
    peft.set_peft_model_state_dict(wrapped, as_peft_says(here.adapters, "b"))
    others = gw.attach(theirs, sites=sites_of(model))
    torch.manual_seed(5)
    others.add("ours", gw.Pfeiffer())
    lively(others, "ours")
    with torch.no_grad():
        both = here.run(gw.Stack("b", "ours"))
        with others.using("ours"):
            expected = main_output(theirs(**clone_inputs(here.zoo.inputs)))
        torch.testing.assert_close(both, expected)
        torch.testing.assert_close(here.run(gw.Stack("ours", "b")), expected)
        contract.differ(both, here.run("b"))
        contract.differ(both, here.run("ours"))
        assert torch.equal(here.run(gw.Stack("b")), here.run("b"))


def test_blocks_that_weigh_or_give_rows_are_refused(case: MakeCase) -> None:
    here = case()
    rows = len(next(iter(here.zoo.inputs.values())))
    blocks = [
        gw.Average("a", "b"),
        gw.BatchSplit("a", None, batch_sizes=[1, rows - 1]),
        gw.MixedBatch(["a"] * rows),
        gw.Replicate("a", "b"),
        gw.Split("a", None, splits=[1, 1]),
        gw.Stack(gw.Average("a"), "b"),
    ]
    for block in blocks:
        with pytest.raises(gw.CompositionError, match="Stack, or alone"):
            here.adapters.active = block
    with pytest.raises(gw.CompositionError, match="Stack, or alone"):
        here.adapters.add_fusion(gw.Fuse("a", "b", name="f"))
    assert here.adapters.fusions == {}
    assert here.adapters.active is None
    with pytest.raises(gw.ConfigError, match="computed by peft"):
        here.adapters.merge("c", ["a", "b"])


def test_a_deep_copy_is_a_model_of_its_own(case: MakeCase) -> None:
    here = case()
    here.adapters.active = "b"
    inputs = clone_inputs(here.zoo.inputs)
    with torch.no_grad():
        expected = here.run("b")
        twin = copy.deepcopy(here.model)
        for p in here.adapters.shared_of("b").parameters():
            p.zero_()
        assert torch.equal(main_output(twin(**inputs)), expected)
        gw.of(twin).active = None
        assert torch.equal(main_output(twin(**inputs)), here.run(None))
        gw.of(twin).detach()
        assert torch.equal(main_output(twin(**inputs)), here.run(None))


# -- several kinds at once ---------------------------------------------------------------------------------------------


def peft_model(*kinds: str) -> tuple[Any, gw.Adapters]:
    model = build("bert").model
    adapters = gw.attach(model, sites=sites_of("bert"))
    for n, kind in enumerate(kinds):
        torch.manual_seed(n)
        adapters.add(kind, config(kind, "bert"), native=False)
        lively(adapters, kind, seed=n)
    return model, adapters


def test_each_kind_comes_and_goes_by_itself() -> None:
    kinds = ("lora", "ia3", "vera", "dora", "ln_tuning")
    model, adapters = peft_model(*kinds)
    fresh = build("bert").model
    inputs = build("bert").inputs
    alone = {}
    for n, kind in enumerate(kinds):
        single, one = peft_model()
        torch.manual_seed(n)
        one.add(kind, config(kind, "bert"), native=False)
        lively(one, kind, seed=n)
        one.active = kind
        alone[kind] = output(single, inputs)
    for removed in (None, "ia3", "lora", "ln_tuning"):
        if removed is not None:
            adapters.remove(removed)
        for kind in adapters.names:
            with adapters.using(kind):
                assert torch.equal(output(model, inputs), alone[kind]), (removed, kind)
        assert torch.equal(output(model, inputs), output(fresh, inputs))
    for kind in ("vera", "dora"):
        adapters.remove(kind)
    assert list(model.state_dict()) == list(fresh.state_dict())


def test_additive_methods_add_up_in_one_layer() -> None:
    model, adapters = peft_model("lora", "vera")
    layer = model.encoder.layer[0].attention.self.query
    x = torch.randn(2, 3, 32)
    seen: dict[Any, Tensor] = {}

    def look(module: Any, args: Any, result: Tensor) -> None:
        seen[str(adapters.runtime.frame and adapters.runtime.frame.plan.composition)] = result

    handle = layer.register_forward_hook(look)
    inputs = build("bert").inputs
    for composition in (None, "lora", "vera", gw.Stack("vera", "lora")):
        with adapters.using(composition):
            output(model, inputs)
    handle.remove()
    base = seen["None"]
    both = seen[str(gw.Stack("vera", "lora"))]
    torch.testing.assert_close(both - base, (seen["lora"] - base) + (seen["vera"] - base), rtol=1e-4, atol=1e-4)
    assert x.shape[-1] == 32


def test_a_method_that_would_compute_past_another_is_refused() -> None:
    model, adapters = peft_model("lora", "hra")
    inputs = build("bert").inputs
    adapters.active = gw.Stack("lora", "hra")
    with pytest.raises(gw.CompositionError, match="add 'hra' first"):
        output(model, inputs)
    other, others = peft_model("hra", "lora")
    others.active = gw.Stack("lora", "hra")
    assert torch.isfinite(output(other, inputs)).all()


def test_threads_use_adapters_of_their_own() -> None:
    model, adapters = peft_model("lora", "ia3")
    inputs = build("bert").inputs
    expected = {}
    for name in ("lora", "ia3", None):
        with adapters.using(name):
            expected[name] = output(model, inputs)
    wrong: list[Any] = []

    def work(name: Any) -> None:
        with adapters.using(name):
            for _ in range(8):
                if not torch.equal(output(model, inputs), expected[name]):
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_composition_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    model, adapters = peft_model("lora", "vera")
    adapters.add("ours", gw.Pfeiffer())
    lively(adapters, "ours")
    whole = gw.Stack("lora", "ours", "vera")
    adapters.save(whole, tmp_path / "all")
    other, others = peft_model()
    assert others.load(tmp_path / "all") == whole
    inputs = build("bert").inputs
    with adapters.using(whole), others.using(whole):
        assert torch.equal(output(model, inputs), output(other, inputs))


def test_a_file_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    _, adapters = peft_model("lora")
    adapters.save("lora", tmp_path / "x")
    model, others = peft_model()
    before = snapshot(model)
    edit_json(tmp_path / "x", lambda data: data["config"]["peft"].update(r=2))
    with pytest.raises(gw.CheckpointError, match="does not fit"):
        others.load(tmp_path / "x")
    edit_json(tmp_path / "x", lambda data: data["config"]["peft"].update(rr=4))
    with pytest.raises(gw.CheckpointError, match="rr"):
        others.load(tmp_path / "x")
    assert_same(before, snapshot(model))


# -- on a model with a head --------------------------------------------------------------------------------------------


def test_it_owns_a_head_and_learns_with_it(tmp_path: Path) -> None:
    model = bert_classifier()
    adapters = gw.attach(model)
    adapters.add("x", lora(target_modules=["query", "value"]), native=False)
    lively(adapters, "x")
    adapters.train_only("x")
    model(input_ids=ids(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    learning = [n for n, p in model.named_parameters() if p.grad is not None]
    assert all("lora_" in n or ".heads." in n for n in learning)
    assert any(".heads." in n for n in learning)
    adapters.save("x", tmp_path / "x")
    base = model.bert if hasattr(model, "bert") else model.base_model
    with adapters.using("x"):
        expected = output(model, {"input_ids": ids()})
    other = bert_classifier()
    others = gw.attach(other)
    others.load(tmp_path / "x")
    others.active = "x"
    assert torch.equal(output(other, {"input_ids": ids()}), expected)
    alone = bert_classifier().base_model
    gw.attach(alone).load(tmp_path / "x")
    assert gw.of(alone).shared_of("x").state_dict().keys() == adapters.shared_of("x").state_dict().keys()
    assert base is model.base_model


def test_all_linear_takes_none_of_ours() -> None:
    model = bert_classifier()
    adapters = gw.attach(model)
    adapters.add("ours", gw.Houlsby())
    adapters.add("x", lora(target_modules="all-linear", task_type="SEQ_CLS"), native=False)
    adapters.add("y", lora(target_modules="all-linear", task_type="SEQ_CLS"), native=False)
    names = adapters.shared_of("y").state_dict()
    assert names.keys() == adapters.shared_of("x").state_dict().keys()
    assert not [n for n in names if "graftwork" in n or n.count("lora_") > 1]


def test_frozen_in_a_stack_its_dropout_is_off() -> None:
    model, adapters = peft_model()
    adapters.add("x", lora(target_modules=["query"], lora_dropout=0.5), native=False)
    adapters.add("ours", gw.Pfeiffer())
    lively(adapters, "x")
    adapters.train_only("ours", active=gw.Stack("x", "ours"))
    for m in model.modules():
        if isinstance(m, torch.nn.Dropout) and m not in [d for n, d in model.named_modules() if "lora_dropout" in n]:
            m.p = 0.0
        if hasattr(m, "dropout_prob"):  # attention of transformers 4.57 keeps a number
            m.dropout_prob = 0.0
    inputs = build("bert").inputs
    model.train()
    assert torch.equal(output(model, inputs), output(model, inputs))
    adapters.train_only("x", active=gw.Stack("x", "ours"))
    assert not torch.equal(output(model, inputs), output(model, inputs))


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: peft.LoraConfig(target_modules=["nowhere"]), "nowhere"),
        (lambda: peft.LoraConfig(target_modules=["query"], bias="all"), "bias"),
        (lambda: peft.LoraConfig(target_modules=["query"], init_lora_weights="pissa"), "the base's own weights"),
        (lambda: peft.LoraConfig(target_modules=["query"], init_lora_weights="olora"), "the base's own weights"),
        (lambda: peft.LoraConfig(target_modules=["query"], init_lora_weights="eva"), "from data"),
        (lambda: peft.LoraConfig(target_modules=["query"], init_lora_weights="lora_ga"), "from data"),
        (lambda: peft.LoraConfig(target_modules=["query"], modules_to_save=["classifier"]), "head"),
        (lambda: peft.AdaLoraConfig(target_modules=["query"], total_step=10), "get_peft_model"),
        (lambda: peft.PeftConfig(peft_type="LORA"), "peft refuses"),
    ],
)
def test_what_cannot_be_had_is_refused_and_leaves_nothing(wrong: Any, says: str) -> None:
    model = bert_classifier()
    adapters = gw.attach(model)
    before = snapshot(model)
    with pytest.raises(gw.ConfigError, match=says):
        adapters.add("x", wrong(), native=False)
    assert_same(before, snapshot(model))
    assert adapters.names == ()


def test_what_peft_put_there_itself_is_refused() -> None:
    model = bert_classifier()
    adapters = gw.attach(model)
    peft.inject_adapter_in_model(lora(), model)
    with pytest.raises(gw.AttachError, match="without graftwork"):
        adapters.add("x", lora(), native=False)


def test_what_peft_sets_itself_is_refused() -> None:
    model, adapters = peft_model("lora")
    inputs = build("bert").inputs
    peft.inject_adapter_in_model(config("lora", "bert"), model)
    adapters.active = "lora"
    with pytest.raises(gw.AttachError, match="set by peft itself"):
        output(model, inputs)


def test_a_part_outside_the_forward_is_refused() -> None:
    model, adapters = peft_model("lora")
    x = torch.randn(1, 3, 32)
    plain = model.encoder.layer[0].attention.self.query(x)
    adapters.active = "lora"
    with pytest.raises(gw.AttachError, match="outside the model's forward"):
        model.encoder.layer[0].attention.self.query(x)
    adapters.active = None
    assert torch.equal(model.encoder.layer[0].attention.self.query(x), plain)


def test_values_without_peft_say_so_and_values_make_a_configuration() -> None:
    given = gw.Peft(peft=peft.LoraConfig(r=3, target_modules=["query"]))
    assert gw.Peft(peft=given.to_dict()["peft"]) == given
    assert gw.Peft(peft={"peft_type": "LORA", "r": 3, "target_modules": ["query"]}) == given
    assert gw.Peft(peft={"peft_type": "LORA", "r": 4, "target_modules": ["query"]}) != given
    for wrong in ({"peft_type": "NONE"}, {"peft_type": "LORA", "rank": 3}, {}, 3, gw.Pfeiffer()):
        with pytest.raises(gw.ConfigError):
            gw.Peft(peft=wrong)
