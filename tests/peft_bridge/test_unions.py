"""Unions with parts of peft, UniPELT and MAM among them: the contract's laws as far as they apply, gates written out by hand."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

import graftwork as gw
from tests.checkpoint.common import edit_json
from tests.support.attached import assert_same, lively, output, snapshot
from tests.zoo.models import build, clone_inputs, main_output

peft = pytest.importorskip("peft")

from tests.contract import test_contract as contract  # noqa: E402
from tests.contract.cases import loss, sites_of  # noqa: E402
from tests.support.union_cases import LORA, REFUSED, UNIONS, PeftUnionCase, lora, prefix  # noqa: E402

MODELS = ("bert", "t5", "gpt2")
MakeCase = Callable[..., PeftUnionCase]

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


@pytest.fixture(params=UNIONS)
def case(request: pytest.FixtureRequest, model: str) -> MakeCase:
    kind = str(request.param)
    if (kind, model) in REFUSED:
        pytest.skip(f"{kind} is refused on {model}: {REFUSED[kind, model]}")
    return lambda dtype=torch.float32: PeftUnionCase(kind, model, dtype)


@pytest.mark.parametrize(("kind", "model"), REFUSED)
def test_where_a_part_cannot_be_had_all_are_refused_and_nothing_is_left(kind: str, model: str) -> None:
    zoo = build(model)
    adapters = gw.attach(zoo.model, sites=sites_of(model))
    before = snapshot(zoo.model)
    with pytest.raises(gw.ConfigError, match=REFUSED[kind, model]):
        adapters.add("a", UNIONS[kind](model))
    assert_same(before, snapshot(zoo.model))
    assert adapters.names == ()


def test_what_learns_is_all_of_it_and_counted(case: MakeCase) -> None:
    here = case()
    here.adapters.train_only("a")
    learning = {n: p for n, p in here.model.named_parameters() if p.requires_grad}
    assert learning.keys() == here.weights("a").keys()
    row = next(r for r in here.adapters.summary().rows if r.name == "a")
    assert sum(p.numel() for p in learning.values()) == row.weights
    assert all(p.dtype is torch.float32 for p in learning.values())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", ["mam", "unipelt_causal", "lora_and_ours", "twice_lora"])
def test_checkpointing_gives_the_same_gradients(kind: str, reentrant: bool) -> None:
    here = PeftUnionCase(kind, "t5")
    here.unsettle("a")
    here.adapters.train_only(["a", "b"], active="a")
    here.model.train()

    expected = here.gradients("a", "b")
    here.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    here.require_gradients(here.gradients("a", "b"), expected)


def test_in_a_bfloat16_base_it_stays_float32_and_learns(case: MakeCase) -> None:
    here = case(torch.bfloat16)
    here.adapters.train_only("b")
    result = here.run("b")
    assert result.dtype is torch.bfloat16
    loss(result).backward()
    for name, p in here.weights("b").items():
        assert p.grad is not None and torch.isfinite(p.grad).all(), name


def test_stacked_with_ours_both_compute(case: MakeCase) -> None:
    here = case()
    here.adapters.add("ours", gw.Pfeiffer())
    lively(here.adapters, "ours")
    with torch.no_grad():
        both = here.run(gw.Stack("b", "ours"))
        assert both.shape == here.run("b").shape
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
        gw.Split("a", None, splits=[1, 1]),
    ]
    for block in blocks:
        with pytest.raises(gw.CompositionError, match="Stack, or alone"):
            here.adapters.active = block
    with pytest.raises(gw.CompositionError, match="Stack, or alone"):
        here.adapters.add_fusion(gw.Fuse("a", "b", name="f"))
    with pytest.raises(gw.ConfigError, match="computed by peft"):
        here.adapters.merge("c", ["a", "b"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copy_is_a_model_of_its_own(case: MakeCase, copied: Callable[[Any], Any]) -> None:
    here = case()
    here.adapters.active = "b"
    inputs = clone_inputs(here.zoo.inputs)
    with torch.no_grad():
        expected = here.run("b")
        twin = copied(here.model)
        for module in here.owned("b"):
            for p in module.parameters():
                p.zero_()
        assert torch.equal(main_output(twin(**inputs)), expected)
        contract.differ(main_output(here.model(**inputs)), expected)
        gw.of(twin).detach()
        assert torch.equal(main_output(twin(**inputs)), here.run(None))


# -- the same as its parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_mam_is_a_prefix_and_a_parallel_adapter_in_a_stack(model: str) -> None:
    here = PeftUnionCase("mam", model)
    parts = here.config.made_of
    there = build(model)
    adapters = gw.attach(there.model, sites=sites_of(model))
    adapters.add("prefix", parts[0])
    adapters.add("parallel", parts[1])
    theirs = {k.removeprefix("0."): v for k, v in here.adapters.shared_of("b").state_dict().items()}
    for key, tensor in adapters.shared_of("prefix").state_dict().items():
        tensor.copy_(theirs[key])
    for key, module in adapters.modules_of("parallel").items():
        module.load_state_dict(here.adapters.modules_of("b")[key].parts[1].state_dict())
    adapters.active = gw.Stack("prefix", "parallel")
    with torch.no_grad():
        expected = main_output(there.model(**clone_inputs(there.inputs)))
        assert torch.equal(here.run("b"), expected)


@pytest.mark.parametrize("model", MODELS)
def test_with_its_gates_wide_open_it_is_without_gates(model: str) -> None:
    """sigmoid(1000) is 1."""
    one, other = (build(model, torch.float64) for _ in range(2))
    with_gate, without = (gw.attach(zoo.model, sites=sites_of(model)) for zoo in (one, other))
    with_gate.add("x", gw.Peft(peft=lora(model), gate=True))
    without.add("x", lora(model), native=False)
    lively(with_gate, "x")
    state = with_gate.shared_of("x").state_dict()
    plain = without.shared_of("x").state_dict()
    for name, tensor in state.items():
        if ".gate." in name:
            tensor.fill_(1000.0 if name.endswith("bias") else 0.0)
    for name, tensor in plain.items():
        tensor.copy_(state[name])
    with with_gate.using("x"), without.using("x"):
        assert torch.equal(output(one.model, one.inputs), output(other.model, other.inputs))


# -- the formula -------------------------------------------------------------------------------------------------------


def gate(weights: dict[str, Tensor], h: Tensor, mask: Tensor) -> Tensor:
    """The mean over unpadded positions of sigmoid(w · h + b), one number a row ``(batch, 1, 1)``."""
    values = 1 / (1 + torch.exp(-(h @ weights["weight"].T + weights["bias"])))
    rows = [values[row][mask[row]].mean() for row in range(len(h))]
    return torch.stack(rows)[:, None, None]


def part(state: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor.double() for name, tensor in state.items() if name.startswith(start)}


def bert_by_hand(model: Any, adapters: gw.Adapters, name: str, inputs: dict[str, Tensor], factor: float) -> Tensor:
    """BERT with UniPELT, every formula of the paper written out; ``factor`` is LoRA's beside its gate."""
    config, mask = adapters.config(name), inputs["attention_mask"].bool()
    state = adapters.shared_of(name).state_dict()
    encoder = part(state, "0.prompt.")
    raw = encoder["embedding.weight"] @ encoder["transform.0.weight"].T + encoder["transform.0.bias"]
    made = torch.tanh(raw) @ encoder["transform.2.weight"].T + encoder["transform.2.bias"]
    heads, size = model.config.num_attention_heads, model.config.hidden_size // model.config.num_attention_heads
    prefixes = made.view(config.prefix_tokens, -1, 2, heads, size)  # tokens, layers, keys and values, heads
    places = torch.arange(mask.shape[1])[None]
    h = model.embeddings(inputs["input_ids"], token_type_ids=inputs.get("token_type_ids"), position_ids=places)
    for n, layer in enumerate(model.encoder.layer):
        own = layer.attention.self
        lead = gate(part(state, f"0.prompt.gates.{n}."), h, mask)[..., None]
        parts = []
        for which in ("query", "key", "value"):
            linear = getattr(own, which)
            base = getattr(linear, "base_layer", linear)
            value = h @ base.weight.T + base.bias
            if which != "key":
                low = part(state, f"1.encoder.layer.{n}.attention.self.{which}.")
                added = (h @ low["lora_A.weight"].T) @ low["lora_B.weight"].T
                value = value + gate(part(low, "gate."), h, mask) * factor * added
            parts.append(value.unflatten(-1, (heads, size)).transpose(1, 2))
        q, k, v = parts
        k = torch.cat([lead * prefixes[:, n, 0].transpose(0, 1).expand(len(h), -1, -1, -1), k], dim=2)
        v = torch.cat([lead * prefixes[:, n, 1].transpose(0, 1).expand(len(h), -1, -1, -1), v], dim=2)
        seen = torch.cat([mask.new_ones(len(h), config.prefix_tokens), mask], dim=1)[:, None, None]
        scores = (q @ k.transpose(-1, -2) / math.sqrt(size)).masked_fill(~seen, -math.inf)
        mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2)
        out = layer.attention.output
        s = out.LayerNorm(h + mixed @ out.dense.weight.T + out.dense.bias)
        y = layer.output.dense(layer.intermediate.intermediate_act_fn(layer.intermediate.dense(s)))
        key = next(adapters.sites.key_of(s) for s in adapters.sites if (s.kind, s.layer) == ("feed_forward", n))
        a = part(adapters.modules_of(name)[key].parts[2].state_dict(), "")
        read = layer.output.LayerNorm(s + y)
        low = read @ a["down"].T + a["down_bias"]
        delta = (low * (low > 0)) @ a["up"].T + a["up_bias"]
        h = layer.output.LayerNorm(s + y + gate({"weight": a["gate"], "bias": a["gate_bias"]}, read, mask) * delta)
    return h


@pytest.mark.parametrize(
    ("options", "factor"), [({}, 1.0), ({"lora_alpha": 16}, 16 / 4)], ids=["alpha = r", "alpha = 4 r"]
)
def test_unipelt_is_its_formula(options: dict[str, Any], factor: float) -> None:
    """LoRA's factor is 1, and α / r where a file or a user says an α."""
    here = PeftUnionCase("unipelt", "bert", torch.float64, **options)
    assert gw.config_from_dict(json.loads(json.dumps(here.config.to_dict()))) == here.config
    inputs = clone_inputs(here.zoo.inputs)
    assert not inputs["attention_mask"].all()
    with torch.no_grad():
        actual = here.run("b")
        with here.adapters.using(None):
            expected = bert_by_hand(here.model, here.adapters, "b", inputs, factor)
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(actual[kept], expected[kept], rtol=1e-6, atol=1e-6)


def test_a_row_s_gates_do_not_depend_on_the_rows_beside_it() -> None:
    """Alone a row is not padded; beside a longer one it is."""
    here = PeftUnionCase("unipelt", "bert", torch.float64)
    words = {"input_ids": torch.arange(4, 16).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    words["attention_mask"][0, 4:] = 0
    with torch.no_grad(), here.adapters.using("b"):
        both = main_output(here.model(**words))
        alone = main_output(here.model(**{k: v[:1, :4] for k, v in words.items()}))
    torch.testing.assert_close(both[:1, :4], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["unipelt_causal", "gated_lora"])
def test_in_a_decoder_no_gate_looks_ahead(kind: str) -> None:
    here = PeftUnionCase(kind, "gpt2", torch.float64)
    ids = torch.arange(4, 11).reshape(1, 7)
    other = ids.clone()
    other[0, 5:] = 3
    with torch.no_grad(), here.adapters.using("b"):
        one, two = (main_output(here.model(input_ids=i, attention_mask=torch.ones_like(i))) for i in (ids, other))
    torch.testing.assert_close(one[:, :5], two[:, :5], rtol=1e-10, atol=1e-10)
    contract.differ(one[:, 5:], two[:, 5:])


# -- counts ------------------------------------------------------------------------------------------------------------


def counted(config: gw.AdapterConfig) -> int:
    with torch.device("meta"):
        adapters = gw.attach(hf.BertModel(hf.BertConfig()))
    adapters.add("x", config)
    return adapters.summary().rows[0].weights


def prefix_weights(tokens: int, size: int, d: int = 768, layers: int = 12) -> int:
    """E: l · d; W_1: d · m + m; W_2: m · 2Ld + 2Ld."""
    return tokens * d + d * size + size + size * 2 * layers * d + 2 * layers * d


def test_unipelt_on_bert_base_has_the_weights_of_its_formula() -> None:
    d, layers, gate_of_one = 768, 12, 768 + 1
    low_rank = layers * 2 * (2 * 8 * d)
    adapter = layers * (2 * d * 48 + 48 + d)
    expected = prefix_weights(10, 512) + low_rank + adapter + layers * 4 * gate_of_one  # prefix, q, v, adapter
    assert counted(gw.UniPELT()) == expected == 11_083_376
    assert counted(gw.UniPELT(gated=())) == expected - layers * 4 * gate_of_one
    assert counted(gw.UniPELT(prefix_tokens=0, lora_rank=0, gated=())) == adapter == 894_528


def test_mam_on_bert_base_has_the_weights_of_its_formula() -> None:
    d, layers = 768, 12
    parallel = layers * (2 * d * 512 + 512 + d)
    assert counted(gw.MAM()) == prefix_weights(30, 800) + parallel == 24_854_816
    assert counted(gw.MAM(prefix_tokens=16, bottleneck_size=16, scale=2)) == prefix_weights(16, 800) + layers * (
        2 * d * 16 + 16 + d
    )


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: gw.Peft(peft=peft.IA3Config(target_modules=["key"]), gate=True), "could be gated"),
        (lambda: gw.Peft(peft=peft.LoraConfig(use_dora=True), gate=True), "could be gated"),
        (lambda: gw.Peft(peft=peft.LoraConfig(), gate=1), "True or False"),
        (lambda: gw.UniPELT(gated=("heads",)), "gated is"),
        (lambda: gw.UniPELT(prefix_tokens=-1), "prefix_tokens"),
        (lambda: gw.UniPELT(lora_alpha=-1), "lora_alpha"),
        (lambda: gw.UniPELT(reduction_factor=0), "reduction_factor"),
        (lambda: gw.MAM(prefix_tokens=0), "prefix_tokens"),
        (lambda: gw.MAM(scale="wide"), "scale"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: Any, says: str) -> None:
    with pytest.raises(gw.ConfigError, match=says):
        wrong()


def test_a_union_that_peft_refuses_in_the_middle_leaves_nothing() -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    adapters.add("first", lora("bert"), native=False)
    before = snapshot(zoo.model)
    for last in (peft.LoraConfig(target_modules=["nowhere"]), peft.PromptTuningConfig(num_virtual_tokens=2)):
        with pytest.raises(gw.ConfigError, match=r"nowhere|twice"):
            adapters.add("x", gw.Union(prefix(), lora("bert"), gw.Pfeiffer(), last))
        assert_same(before, snapshot(zoo.model))
        assert adapters.names == ("first",)


def test_a_gate_needs_features_and_says_so() -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    words = peft.LoraConfig(r=2, target_modules=["word_embeddings"])
    with pytest.raises(gw.ConfigError, match="reads no features"):
        adapters.add("x", gw.Peft(peft=words, gate=True))
    bare = build("bert")
    without = gw.attach(bare.model, sites=[s for s in sites_of("bert") if s.layer == 0])
    with pytest.raises(gw.ConfigError, match="not known of layer 1"):
        without.add("x", gw.Peft(peft=prefix(), gate=True))


def test_layers_that_compute_past_those_of_another_part_are_refused() -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    adapters.add("x", gw.Union(lora("bert"), peft.HRAConfig(r=4, target_modules=LORA["bert"])))
    adapters.active = "x"
    with pytest.raises(gw.CompositionError, match="compute without"):
        output(zoo.model, zoo.inputs)


def test_a_gate_stays_on_a_layer_that_others_are_put_around() -> None:
    """The layer is where a site writes too, whose hooks move on to what stands outermost."""
    zoo = build("bert")
    whole = sites_of("bert")
    moved = [s for s in whole if s.kind == "feed_forward"]
    sites = [dataclasses.replace(s, output=gw.Tap(f"{s.block}.output.dense", "output")) for s in moved]
    adapters = gw.attach(zoo.model, sites=sites)
    targets = peft.LoraConfig(r=4, target_modules=[r"output.dense"], exclude_modules=r".*attention.*")
    adapters.add("ours", gw.Bottleneck(sites=("feed_forward",)))
    adapters.add("x", gw.Peft(peft=targets, gate=True))
    lively(adapters, "x")
    lively(adapters, "ours")
    with adapters.using(gw.Stack("x", "ours")):
        expected = output(zoo.model, zoo.inputs)
        adapters.add("y", targets)
        assert torch.equal(output(zoo.model, zoo.inputs), expected)
        assert torch.equal(output(zoo.model, zoo.inputs), expected)
    for p in adapters.shared_of("x").parameters():
        p.grad = None
    adapters.train_only("x")
    loss(main_output(zoo.model(**zoo.inputs))).backward()
    gates = [p for n, p in zoo.model.named_parameters() if ".gate." in n]
    assert len(gates) == 4
    assert all(p.grad is not None and p.grad.any() for p in gates)


def test_compiled_it_computes_the_same() -> None:
    here = PeftUnionCase("lora_and_ours", "bert")
    here.adapters.add("gated", UNIONS["gated_lora"]("bert"))
    lively(here.adapters, "gated")
    here.adapters.active = gw.Stack("b", "gated")
    inputs = clone_inputs(here.zoo.inputs)
    with torch.no_grad():
        expected = main_output(here.model(**inputs))
        compiled = torch.compile(here.model, backend="eager", fullgraph=True)
        torch.testing.assert_close(main_output(compiled(**inputs)), expected)


def test_threads_have_gates_of_their_own() -> None:
    here = PeftUnionCase("unipelt", "bert")
    here.unsettle("a")
    one = clone_inputs(here.zoo.inputs)
    work = {"a": one, "b": {k: v[:2, :5] for k, v in one.items()}}
    expected = {}
    for name, inputs in work.items():
        with torch.no_grad(), here.adapters.using(name):
            expected[name] = main_output(here.model(**inputs))
    wrong: list[str] = []

    def run(name: str) -> None:
        with torch.no_grad(), here.adapters.using(name):
            for _ in range(6):
                if not torch.equal(main_output(here.model(**work[name])), expected[name]):
                    wrong.append(name)

    threads = [threading.Thread(target=run, args=(name,)) for name in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_adapter_that_is_gone_is_beneath_nobody() -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    adapters.add("a", lora("bert"), native=False)
    adapters.add("b", lora("bert"), native=False)
    adapters.remove("a")
    adapters.add("a", lora("bert"), native=False)
    adapters.active = gw.Stack("a", "b")
    assert torch.isfinite(output(zoo.model, zoo.inputs)).all()


def test_a_file_of_other_sizes_leaves_nothing(tmp_path: Path) -> None:
    here = PeftUnionCase("unipelt", "bert")
    here.adapters.save("a", tmp_path / "a")
    other = build("bert")
    adapters = gw.attach(other.model, sites=sites_of("bert"))
    before = snapshot(other.model)
    for changed, before_it in (({"lora_rank": 2}, {"lora_rank": 4}), ({"prefix_tokens": 2}, {"prefix_tokens": 3})):
        edit_json(tmp_path / "a", lambda data, changed=changed: data["config"].update(changed))  # type: ignore[misc]
        with pytest.raises(gw.CheckpointError, match="does not fit"):
            adapters.load(tmp_path / "a")
        assert_same(before, snapshot(other.model))
        edit_json(tmp_path / "a", lambda data, it=before_it: data["config"].update(it))  # type: ignore[misc]


def test_a_prefix_before_a_method_that_looks_at_padding() -> None:
    """What stands at a site is given the mask of the positions in hand, without the prefix's."""
    zoo = build("bert", torch.float64)
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    adapters.add("x", gw.Union(prefix(), gw.Pfeiffer(gate=True), gw.PAL(size=8, heads=2)))
    lively(adapters, "x")
    words = {"input_ids": torch.arange(4, 16).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    words["attention_mask"][0, 4:] = 0
    with torch.no_grad(), adapters.using("x"):
        both = main_output(zoo.model(**words))
        alone = main_output(zoo.model(**{k: v[:1, :4] for k, v in words.items()}))
    torch.testing.assert_close(both[:1, :4], alone, rtol=1e-6, atol=1e-6)
