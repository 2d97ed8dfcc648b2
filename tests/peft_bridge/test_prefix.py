"""A prefix is its formula, softmax over [P_k; K], in encoders, decoders and encoder-decoders, with a cache and without."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

import graftwork as gw
from tests.support.attached import bert_classifier, lively, output
from tests.zoo.models import build, clone_inputs, main_output

peft = pytest.importorskip("peft")

TOKENS = 3
MODELS = ("bert", "roberta", "distilbert", "albert", "vit", "bart", "t5_generation", "llama")


def config(**options: Any) -> Any:
    return peft.PrefixTuningConfig(num_virtual_tokens=TOKENS, **options)


def prefixed(name: str, how: str = "sdpa") -> tuple[Any, gw.Adapters, dict[str, Any]]:
    zoo = build(name, torch.float64)
    if how not in ("sdpa", zoo.model.config._attn_implementation):
        zoo.model.set_attn_implementation(how)
    adapters = gw.attach(zoo.model)
    adapters.add("x", config())
    lively(adapters, "x", size=1.0)
    return zoo.model, adapters, clone_inputs(zoo.inputs)


def by_hand(model: Any, adapters: gw.Adapters, inputs: dict[str, Any], shift: int) -> Tensor:
    """The model with the formula written out as an attention of transformers, without anything of ours."""
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.modeling_utils import AttentionInterface

    state = {k.removeprefix("prompt."): v.double() for k, v in adapters.shared_of("x").state_dict().items()}
    sites = [s for s in adapters.sites if "attention" in s.kind]
    first = {s.stack: s for s in reversed(sites)}
    calls: dict[str, int] = {}

    def attention(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: Any = None, **more: Any) -> Any:
        place = next(n for n, m in model.named_modules() if m is module)
        stack = max((s for s in first if place.startswith(f"{s}.")), key=len)
        cross = "EncDec" in place or "encoder_attn" in place
        layer = int(place.removeprefix(f"{stack}.").partition(".")[0])
        if model.config.model_type == "albert":
            layer = calls[stack] = calls.get(stack, -1) + 1
        own = f"{stack.replace('.', '_')}_{'cross_' if cross else ''}attention." if len({*first}) > 1 else ""
        table = state[f"{own}embedding.weight"].view(TOKENS, -1, 2, k.shape[1], k.shape[-1])
        pk, pv = (table[:, layer, n].transpose(0, 1).expand(len(k), -1, -1, -1) for n in (0, 1))
        if k.shape[1] < q.shape[1]:
            pk, pv, k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (pk, pv, k, v))
        own_scores = q @ k.transpose(-1, -2) * (k.shape[-1] ** -0.5 if scaling is None else scaling)
        for added in (mask, more.get("position_bias")):
            own_scores = own_scores if added is None else own_scores + added[..., : k.shape[-2]]
        scores = torch.cat(
            [q @ pk.transpose(-1, -2) * (k.shape[-1] ** -0.5 if scaling is None else scaling), own_scores], -1
        )
        mixed = scores.softmax(-1) @ torch.cat([pv, v], -2)
        attention.ran = True  # type: ignore[attr-defined]
        return mixed.transpose(1, 2).contiguous(), None

    AttentionInterface.register("by_hand", attention)
    AttentionMaskInterface.register("by_hand", eager_mask)
    plain = copy.deepcopy(build(model_name(model), torch.float64).model)
    model = plain
    for part in [plain.config, *(m.config for m in plain.modules() if hasattr(m, "config"))]:
        part._attn_implementation = "by_hand"
    if shift:
        length = inputs["input_ids"].shape[1]
        inputs = {**inputs, "position_ids": torch.arange(length)[None] + shift}
    found = None
    with torch.no_grad(), contextlib.suppress(RuntimeError):  # its own attention and another one's mask
        found = main_output(plain(**clone_inputs(inputs)))
    if not hasattr(attention, "ran"):
        pytest.skip("this version of transformers computes the attention of the model elsewhere")
    assert found is not None
    return found


def model_name(model: Any) -> str:
    kind = str(model.config.model_type)
    return {"t5": "t5_generation"}.get(kind, kind)


@pytest.mark.parametrize("how", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_formula(name: str, how: str) -> None:
    model, adapters, inputs = prefixed(name, how)
    plain = output(model, inputs)
    with adapters.using("x"):
        actual = output(model, inputs)
    assert not torch.allclose(actual, plain)
    expected = by_hand(model, adapters, inputs, TOKENS if name == "llama" else 0)
    kept = inputs["attention_mask"].bool() if name in ("bert", "roberta", "distilbert", "albert", "llama") else ...
    near = 1e-9 if how == "sdpa" else 1e-5  # some of transformers' own have their softmax in float32
    torch.testing.assert_close(actual[kept], expected[kept], rtol=near, atol=near)


def test_full_length_inputs_fit_an_encoder() -> None:
    model = bert_classifier(max_position_embeddings=16)
    adapters = gw.attach(model)
    adapters.add("x", gw.MAM(prefix_tokens=4, prefix_size=8, bottleneck_size=4))
    adapters.active = "x"
    assert model(input_ids=torch.full((2, 16), 5)).logits.shape == (2, 3)


def test_a_decoder_with_a_table_of_positions_says_how_many_are_left() -> None:
    model = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=16)).eval()
    adapters = gw.attach(model)
    adapters.add("x", config())
    adapters.active = "x"
    model(input_ids=torch.full((1, 13), 5))
    with pytest.raises(gw.CompositionError, match="at most 13"):
        model(input_ids=torch.full((1, 14), 5))


@pytest.mark.parametrize("name", ["bart_generation", "t5_generation"])
def test_an_encoder_decoder_generates_with_a_cache_as_without(name: str) -> None:
    model, adapters, inputs = prefixed(name)
    adapters.active = "x"
    words = {k: inputs[k] for k in ("input_ids", "attention_mask") if k in inputs}
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    cached = model.generate(**words, **options)
    assert torch.equal(cached, model.generate(**words, **options, use_cache=False))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copy_has_its_own_and_removing_leaves_the_modules_as_they_were(copied: Any) -> None:
    model, adapters, inputs = prefixed("t5_generation")
    before = output(model, inputs)
    adapters.active = "x"
    expected = output(model, inputs)
    twin = copied(model)
    for p in adapters.shared_of("x").parameters():
        p.data.zero_()
    assert torch.equal(output(twin, inputs), expected)
    gw.of(twin).detach()
    assert torch.equal(output(twin, inputs), before)
    assert not any("forward" in m.__dict__ for m in twin.modules())


def test_an_attention_out_of_sight_is_refused() -> None:
    model = bert_classifier()
    model.config._attn_implementation = "flash_attention_2"
    adapters = gw.attach(bert_classifier())
    with pytest.raises(gw.ConfigError, match="attn_implementation='flash_attention_2'"):
        adapters.model.config._attn_implementation = "flash_attention_2"
        adapters.add("x", config())


def test_an_attention_that_cannot_be_followed_raises_by_name() -> None:
    model = build("bert").model
    attention = model.encoder.layer[0].attention.self
    attention.__dict__["forward"] = lambda hidden, *a, **k: (hidden, None)
    adapters = gw.attach(model, sites=gw.attach(build("bert").model).sites)
    adapters.add("x", config())
    adapters.active = "x"
    with pytest.raises(gw.AttachError, match=r"'encoder.layer.0.attention'.*0 of 1 seen"):
        model(input_ids=torch.full((1, 4), 5))
