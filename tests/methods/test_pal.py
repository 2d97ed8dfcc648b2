"""Projected attention layers: their formula, what is shared, what is seen of the other positions, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods.pal import PALModule
from tests.methods.test_bottleneck import NoPadding, place
from tests.support import formulas as formula
from tests.support.attached import lively
from tests.support.interpreter import Lab, close, unsettle
from tests.zoo.models import build, main_output

SMALL: dict[str, Any] = {"size": 12, "heads": 3}


def module_of(config: gw.PAL, width: int = 32) -> PALModule:
    here = place(width=width)
    module = config.build(here, config.shared([here]))
    assert isinstance(module, PALModule)
    return module


# -- the formula -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["bert", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("config", [gw.PAL(**SMALL), gw.PAL(size=8, heads=2, activation="gelu", leave_out=(0,))])
def test_equals_its_formula(model: str, config: gw.PAL) -> None:
    """In a padded batch, and in one without a mask."""
    here = Lab(model)
    here.add("a", config)
    for inputs in (here.inputs, {"input_ids": here.inputs["input_ids"]}):
        with torch.no_grad():
            plain, actual, expected = here.run(None, **inputs), here.run("a", **inputs), here.expect("a", **inputs)
        close(actual, expected)
        assert float((actual - plain).abs().max()) > 1e-3


@pytest.mark.parametrize("padded_decoder", [False, True])
def test_t5_looks_at_the_positions_of_its_own_stack(padded_decoder: bool) -> None:
    """The encoder's padding says nothing of a decoder of the same shape."""
    zoo = build("t5", torch.float64)
    inputs = dict(zoo.inputs)
    inputs["decoder_input_ids"] = inputs["input_ids"].flip(0)
    masks = {"encoder": inputs["attention_mask"].bool(), "decoder": None}
    if padded_decoder:
        masks["decoder"] = masks["encoder"].flip(0)
        inputs["decoder_attention_mask"] = masks["decoder"].long()
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.PAL(**SMALL, dtype="float64"))
    shared = adapters.shared_of("a")
    assert shared is not None
    unsettle([*adapters.modules_of("a").values(), shared], 3)
    assert len(adapters.modules_of("a")) == 4
    with torch.no_grad():
        for key, module in adapters.modules_of("a").items():
            stack = key.partition(".")[0]
            mask, causal = masks[stack], stack == "decoder"
            seen: dict[str, Tensor] = {}

            def keep(_: nn.Module, args: Any, output: Tensor, seen: dict[str, Tensor] = seen) -> None:
                seen["h"], seen["delta"] = args[0], output

            handle = module.register_forward_hook(keep)
            with adapters.using("a"):
                zoo.model(**inputs)
            handle.remove()
            close(seen["delta"], formula.pal(adapters.config("a"), module, seen["h"], mask, causal))  # type: ignore[arg-type]


def test_an_image_of_two_dimensions_is_one_of_all_its_positions() -> None:
    module = module_of(gw.PAL(**SMALL))
    read = torch.randn(2, 3, 4, 32)
    assert torch.equal(module(read, NoPadding()), module(read.flatten(1, 2), NoPadding()).reshape(read.shape))


def test_a_row_of_padding_alone_is_finite() -> None:
    module = module_of(gw.PAL(**SMALL))

    class NothingButPadding:
        def padding_mask(self, read: Tensor) -> Tensor:
            return torch.zeros(read.shape[:2], dtype=torch.bool)

    for causal in (False, True):
        module.hides_later = causal
        assert torch.isfinite(module(torch.randn(2, 3, 32), NothingButPadding())).all()


# -- what it is made of ------------------------------------------------------------------------------------------------


def test_the_projections_are_one_pair_and_the_attention_is_each_layers_own() -> None:
    adapters = gw.attach(build("bert").model)
    adapters.add("a", gw.PAL(**SMALL))
    shared = adapters.shared_of("a")
    assert shared is not None
    assert [n for n, _ in shared.named_parameters()] == [
        f"32.{which}.{part}" for which in ("encode", "decode") for part in ("weight", "bias")
    ]
    first, second = adapters.modules_of("a").values()
    assert first.shared is second.shared is shared
    assert not torch.equal(first.attention.query.weight, second.attention.query.weight)


def test_models_of_several_widths_have_a_pair_for_each() -> None:
    config = gw.PAL(**SMALL)
    places = [place(width=width) for width in (32, 64, 32)]
    shared = config.shared(places)
    assert list(shared._modules) == ["32", "64"]
    for here in places:
        read = torch.randn(2, 3, here.site.width)
        assert config.build(here, shared)(read, NoPadding()).shape == read.shape


def test_starts() -> None:
    torch.manual_seed(0)
    module = module_of(gw.PAL(), width=768)
    for name, p in [*module.named_parameters(), *module.shared.named_parameters()]:
        if name.endswith("bias"):
            assert not p.any()
        else:
            assert float(p.detach().std()) == pytest.approx(0.02, rel=0.02)


def test_dropout_is_at_work_only_while_it_learns() -> None:
    module = module_of(gw.PAL(**SMALL, dropout=0.5))
    read = torch.randn(2, 3, 32)
    for training, learning in ((True, True), (True, False), (False, True)):
        module.train(training)
        module.trainable = learning
        same = torch.equal(module(read, NoPadding()), module(read, NoPadding()))
        assert same is not (training and learning)


# -- compositions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_in_a_split_it_looks_at_all_positions_and_adds_to_its_own(model: str) -> None:
    here = Lab(model)
    here.add("a", gw.PAL(**SMALL))
    here.add("b", gw.Pfeiffer(bottleneck_size=4))
    with torch.no_grad():
        for alone, split in (("a", gw.Split("a", "a", splits=[3, 4])), (None, gw.Split("a", "a", splits=[0, 7]))):
            close(here.run(split), here.run("a" if alone is None else alone))
        stacked = gw.Stack("a", "b")
        close(here.run(gw.Split(stacked, stacked, splits=[2, 5])), here.run(stacked))
        # one layer: what the second layer reads differs where the first was split
        here.add("c", gw.PAL(**SMALL, leave_out=(1,)))
        half = here.run(gw.Split("c", None, splits=[3, 4]))
        assert not torch.equal(half, here.run("c"))
        states = []
        for composition in (gw.Split("c", None, splits=[3, 4]), "c", None):
            with here.adapters.using(composition):
                states.append(here.model(**here.inputs, output_hidden_states=True).hidden_states[1])
        close(states[0][:, :3], states[1][:, :3])
        close(states[0][:, 3:], states[2][:, 3:])


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama_causal", "t5_generation"])
def test_a_cache_is_refused_by_name(name: str) -> None:
    zoo = build(name)
    zoo.model.generation_config.eos_token_id = None
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.PAL(**SMALL))
    lively(adapters, "a", seed=1, size=0.5)
    ids = zoo.inputs["input_ids"][:2, :4]
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False}
    plain = zoo.model.generate(**options, pad_token_id=1)
    for composition in ("a", gw.Stack("a"), gw.MixedBatch(["a", None])):
        with (
            adapters.using(composition),
            pytest.raises(
                gw.CompositionError, match=r"'a' mixes positions, .*cache \(past_key_values\).*use_cache=False"
            ),
        ):
            zoo.model.generate(**options, pad_token_id=1)
    with adapters.using("a"):
        tokens = zoo.model.generate(**options, pad_token_id=1, use_cache=False)
        assert not torch.equal(tokens, plain)
        if name == "llama_causal":  # each new word is the likeliest behind all before it
            likeliest = zoo.model(tokens).logits.argmax(-1)
            assert torch.equal(likeliest[:, 3:-1], tokens[:, 4:])


def test_an_encoder_alone_knows_no_cache() -> None:
    zoo = build("t5_generation")
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.PAL(**SMALL, leave_out=("decoder.block.0", "decoder.block.1")))
    adapters.active = "a"
    ids = zoo.inputs["input_ids"]
    zoo.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=3)


@pytest.mark.parametrize("mask", [torch.ones(3, 1, 7, 7), {"full_attention": None}])
def test_a_mask_that_is_not_by_positions_is_refused(mask: Any) -> None:
    zoo = build("gpt2")
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.PAL(**SMALL))
    adapters.active = "a"
    with pytest.raises(
        gw.CompositionError, match=r"'a' mixes positions and needs an attention mask \(batch, positions\)"
    ):
        zoo.model(input_ids=zoo.inputs["input_ids"], attention_mask=mask)


def test_positions_first_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 48)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    adapters = gw.attach(model, example_inputs={"src": torch.randn(5, 2, 32)})
    adapters.add("a", gw.PAL(**SMALL))
    with pytest.raises(gw.CompositionError, match="batch_first=True"):
        adapters.active = "a"


def test_rows_that_are_positions_are_refused() -> None:
    with pytest.raises(gw.CompositionError, match=r"PAL mixes positions, .*\(6, 32\).*leave that layer out"):
        module_of(gw.PAL(**SMALL))(torch.randn(6, 32), NoPadding())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 7}, "heads is 7, which does not divide size 204"),
        ({"size": 0}, "size is 0"),
        ({"heads": "6"}, "heads is '6'"),
        ({"activation": "gleu"}, "activation is 'gleu'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"init": "xavier"}, "init is 'xavier'"),
        ({"causal": "yes"}, "causal is 'yes'"),
        ({"leave_out": 3}, "leave_out is 3"),
        ({"norms": "mine"}, "norms is 'mine'"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=f"PAL: {said}"):
        gw.PAL(**options)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(gw.ConfigError, match=r"PAL: build\(place, None\) lacks the projections"):
        gw.PAL().build(place())
    adapters = gw.attach(build("bert").model)
    with pytest.raises(gw.ConfigError, match=r"PAL: leave_out names layer 7"):
        adapters.add("a", gw.PAL(leave_out=(7,)))
    with pytest.raises(gw.SiteError, match=r"PAL stands at .*feed_forward.*leave_out not every layer"):
        adapters.add("a", gw.PAL(leave_out=(0, 1)))


def test_who_says_it_is_no_decoder_is_believed() -> None:
    zoo = build("gpt2", torch.float64)
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.PAL(**SMALL, causal=False))
    lively(adapters, "a", seed=1, size=0.5)
    ids = zoo.inputs["input_ids"].clone()
    with torch.no_grad(), adapters.using("a"):
        before = main_output(zoo.model(input_ids=ids))
        ids[:, -1] = 5
        assert not torch.equal(before[:, 0], main_output(zoo.model(input_ids=ids))[:, 0])
        with pytest.raises(gw.CompositionError, match="use_cache=False"):
            zoo.model(input_ids=ids[:, :1], past_key_values=hf.DynamicCache())
