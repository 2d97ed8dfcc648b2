"""Prompt tuning, P-tuning and prefix tuning of peft: equal to peft itself, named, stacked, trained, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from tests.contract.cases import loss, sites_of
from tests.support.attached import assert_same, bert_classifier, ids, lively, output, snapshot
from tests.zoo.models import build, clone_inputs, main_output

peft = pytest.importorskip("peft")

KINDS = {
    "prompt_tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION"),
    "p_tuning": lambda: peft.PromptEncoderConfig(
        num_virtual_tokens=3, encoder_hidden_size=8, task_type="FEATURE_EXTRACTION"
    ),
    "prefix_tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION"),
    "projected": lambda: peft.PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=8, task_type="FEATURE_EXTRACTION"
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=("bert", "gpt2"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def prompted(name: str, kind: str) -> tuple[Any, gw.Adapters, dict[str, Any]]:
    zoo = build(name)
    adapters = gw.attach(zoo.model, sites=sites_of(name))
    torch.manual_seed(3)
    adapters.add("x", KINDS[kind]())
    lively(adapters, "x")
    return zoo.model, adapters, clone_inputs(zoo.inputs)


def state(adapters: gw.Adapters) -> dict[str, Tensor]:
    return {key.removeprefix("prompt."): value for key, value in adapters.shared_of("x").state_dict().items()}


def test_it_is_what_peft_computes(name: str, kind: str) -> None:
    model, adapters, inputs = prompted(name, kind)
    theirs = peft.get_peft_model(build(name).model, KINDS[kind]()).eval()
    theirs.prompt_encoder["default"].load_state_dict(state(adapters))
    plain = output(model, inputs)
    with adapters.using("x"), torch.no_grad():
        mine = main_output(model(**clone_inputs(inputs)))
        expected = main_output(theirs(**clone_inputs(inputs)))
    assert mine.shape == plain.shape and not torch.allclose(mine, plain)
    if name == "bert" and kind in (
        "prefix_tuning",
        "projected",
    ):  # its positions are the authors', not those behind a cache
        assert not torch.allclose(mine, expected)
    else:
        torch.testing.assert_close(mine, expected[:, -plain.shape[1] :])


def test_it_learns_and_nothing_else(name: str, kind: str) -> None:
    model, adapters, inputs = prompted(name, kind)
    adapters.train_only("x")
    model.train()
    loss(main_output(model(**inputs))).backward()
    mine = {id(p) for p in adapters.shared_of("x").parameters()}
    for key, p in model.named_parameters():
        assert (p.grad is not None and bool(p.grad.any())) is (id(p) in mine), key
    row = adapters.summary().rows[0]
    theirs = peft.get_peft_model(build(name).model, KINDS[kind]())
    assert row.weights == theirs.get_nb_trainable_parameters()[0]


def test_saved_loaded_removed_and_detached(name: str, kind: str, tmp_path: Path) -> None:
    fresh = build(name).model
    model, adapters, inputs = prompted(name, kind)
    plain = output(model, inputs)
    assert torch.equal(plain, output(fresh, inputs))
    adapters.save("x", tmp_path / "x")
    with adapters.using("x"):
        expected = output(model, inputs)
    others = gw.attach(fresh, sites=sites_of(name))
    before = snapshot(fresh)
    others.load(tmp_path / "x", "y")
    assert others.config("y") == adapters.config("x")
    with others.using("y"):
        assert torch.equal(output(fresh, inputs), expected)
    others.remove("y")
    assert before["keys"] == list(fresh.state_dict())
    others.detach()
    assert torch.equal(output(fresh, inputs), plain)
    assert list(fresh.state_dict()) == list(build(name).model.state_dict())


def test_beside_an_adapter_of_ours_it_is_mam(name: str) -> None:
    """He et al. 2022: a prefix on the attention and a parallel adapter on the feed-forward, trained as one."""
    model, adapters, inputs = prompted(name, "prefix_tuning")
    adapters.add("parallel", gw.Parallel())
    mam = gw.Stack("x", "parallel")
    lively(adapters, "parallel")
    with torch.no_grad():
        outputs = {}
        for composition in (None, "x", "parallel", mam):
            with adapters.using(composition):
                outputs[str(composition)] = output(model, inputs)
    assert len({tuple(o.flatten().tolist()) for o in outputs.values()}) == 4
    theirs = build(name).model
    others = gw.attach(theirs, sites=sites_of(name))
    others.add("parallel", gw.Parallel())
    for key, module in others.modules_of("parallel").items():
        module.load_state_dict(adapters.modules_of("parallel")[key].state_dict())
    others.active = "parallel"
    if name == "gpt2":  # in an encoder peft moves the positions
        wrapped = peft.get_peft_model(theirs, KINDS["prefix_tuning"]()).eval()
        wrapped.prompt_encoder["default"].load_state_dict(state(adapters))
        with torch.no_grad():
            torch.testing.assert_close(outputs[str(mam)], main_output(wrapped(**clone_inputs(inputs))))
    adapters.train_only(["x", "parallel"], active=mam)
    loss(main_output(model(**inputs))).backward()
    learning = {id(p) for n in ("x", "parallel") for p in weights(adapters, n)}
    assert {id(p) for p in model.parameters() if p.grad is not None} == learning


def weights(adapters: gw.Adapters, name: str) -> list[Tensor]:
    shared = adapters.shared_of(name)
    modules = [*adapters.modules_of(name).values(), *([] if shared is None else [shared])]
    return [p for module in modules for p in module.parameters()]


def test_a_classifier_learns_its_head_too() -> None:
    model = bert_classifier()
    adapters = gw.attach(model)
    adapters.add("x", peft.PromptTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS"))
    adapters.train_only("x")
    mask = torch.ones_like(ids())
    model(input_ids=ids(), attention_mask=mask, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    learning = [n for n, p in model.named_parameters() if p.grad is not None]
    assert any(".heads." in n for n in learning)
    assert any(".tuners." in n for n in learning)


@pytest.mark.parametrize("kind", ["prompt_tuning", "prefix_tuning"])
def test_a_decoder_generates_with_it(kind: str) -> None:
    """With a cache and without it the words are the same."""
    import transformers as hf

    from tests.support.attached import made

    model = made(
        hf.GPT2LMHeadModel,
        hf.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64, eos_token_id=0, pad_token_id=0),
    )
    adapters = gw.attach(model)
    adapters.add("x", KINDS[kind]())
    lively(adapters, "x", size=1.0)
    adapters.active = "x"
    prompt = ids(2, 5) % 60
    mask = torch.ones_like(prompt)
    mask[0, :2] = 0
    made_words = model.generate(prompt, attention_mask=mask, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    words, seen = prompt, mask
    with torch.no_grad():
        for _ in range(6):
            positions = (seen.cumsum(-1) - 1).clamp(min=0)
            logits = model(input_ids=words, attention_mask=seen, position_ids=positions).logits[:, -1]
            logits[:, 0] = -torch.inf
            words = torch.cat([words, logits.argmax(-1, keepdim=True)], dim=1)
            seen = torch.cat([seen, seen.new_ones(2, 1)], dim=1)
    assert torch.equal(made_words, words)


def test_what_cannot_be_had_is_refused() -> None:
    for model_name, config in (
        ("t5", KINDS["prompt_tuning"]()),
        ("vit", KINDS["prompt_tuning"]()),
        ("bert", peft.MultitaskPromptTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS", num_tasks=2)),
    ):
        model = build(model_name).model
        adapters = gw.attach(model, sites=sites_of(model_name))
        before = snapshot(model)
        with pytest.raises(gw.ConfigError, match="get_peft_model"):
            adapters.add("x", config)
        assert_same(before, snapshot(model))
    model, adapters, inputs = prompted("bert", "prompt_tuning")
    adapters.add("y", KINDS["prefix_tuning"]())
    with pytest.raises(gw.CompositionError, match="name one"):
        adapters.active = gw.Stack("x", "y")
    adapters.active = "x"
    with pytest.raises(gw.CompositionError, match="call the model"):
        model.encoder(torch.randn(1, 3, 32))
    with pytest.raises(gw.CompositionError, match="at most"):
        model(input_ids=torch.zeros(1, model.config.max_position_embeddings - 2, dtype=torch.long))
    with pytest.raises(gw.CompositionError, match=r"attention mask \(batch, positions\)"):
        model(input_ids=inputs["input_ids"], attention_mask=torch.ones(3, 1, 7, 7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_s_classifier_reads_the_last_token_of_the_text(name: str, kind: str) -> None:
    import transformers as hf

    from tests.support.attached import made

    small = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config: Any = {
        "gpt2": lambda: hf.GPT2Config(**small, num_labels=3, pad_token_id=0, bos_token_id=1, eos_token_id=2),
        "llama": lambda: hf.LlamaConfig(**small, intermediate_size=48, num_labels=3, pad_token_id=0),
    }[name]()
    model = made({"gpt2": hf.GPT2ForSequenceClassification, "llama": hf.LlamaForSequenceClassification}[name], config)
    adapters = gw.attach(model)
    adapters.add("x", KINDS[kind]())
    lively(adapters, "x")
    text = ids(1, 5) % 50 + 5
    short = {"input_ids": text, "attention_mask": torch.ones_like(text)}
    long = {key: torch.nn.functional.pad(value, (0, 3)) for key, value in short.items()}
    with adapters.using("x"):
        torch.testing.assert_close(model(**short).logits, model(**long).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_places_in_the_text_and_several_choices(kind: str) -> None:
    import transformers as hf

    from tests.support.attached import made

    config = hf.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48
    )
    words, cross = ids(2, 6) % 60, torch.nn.functional.cross_entropy
    model = made(hf.BertForQuestionAnswering, config)
    adapters = gw.attach(model)
    adapters.add("x", KINDS[kind]())
    start, end = torch.tensor([0, 4]), torch.tensor([3, 5])
    with adapters.using("x"):
        found = model(input_ids=words, start_positions=start, end_positions=end)
    assert found.start_logits.shape == (2, 6)
    torch.testing.assert_close(found.loss, (cross(found.start_logits, start) + cross(found.end_logits, end)) / 2)
    model = made(hf.BertForMultipleChoice, config)
    adapters = gw.attach(model)
    adapters.add("x", KINDS[kind]())
    choices = words.view(1, 2, 6).repeat(2, 1, 1)
    with adapters.using("x"):
        assert model(input_ids=choices).logits.shape == (2, 2)


@pytest.mark.parametrize(
    "options", [{"use_cache": False}, {"cache_implementation": "static"}], ids=["uncached", "static"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_however_the_cache_is_kept_the_words_are_the_same(kind: str, options: dict[str, Any]) -> None:
    model = build("llama_causal").model
    adapters = gw.attach(model)
    adapters.add("x", KINDS[kind]())
    lively(adapters, "x", size=1.0)
    adapters.active = "x"
    words = ids(2, 5) % 50 + 3
    how: dict[str, Any] = {"attention_mask": torch.ones_like(words), "max_new_tokens": 5, "do_sample": False}
    expected = model.generate(words, **how)
    if "cache_implementation" in options and kind in ("prompt_tuning", "p_tuning"):
        with pytest.raises(gw.CompositionError, match="static cache"):
            model.generate(words, **how, **options)
        return
    assert torch.equal(model.generate(words, **how, **options), expected)


def test_another_input_by_positions_is_refused() -> None:
    model, adapters, inputs = prompted("bert", "prompt_tuning")
    adapters.active = "x"
    words = inputs["input_ids"]
    with pytest.raises(gw.CompositionError, match="output_places has a place for each position"):
        model(input_ids=words, output_places=torch.ones_like(words))
