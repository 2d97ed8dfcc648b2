"""Invertible adapters: the formula and its inverse, where they stand, their order, refusals, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods.invertible import Coupling
from tests.support.attached import SMALL, lively, made
from tests.support.formulas import PHI, bottleneck
from tests.support.interpreter import close, unsettle
from tests.zoo.models import build

ENDS = gw.InvertiblePfeiffer(leave_out=(0, 1), dtype="float64")  # the invertible adapter alone


def masked_lm(seed: int = 0, **config: Any) -> Any:
    fields = {**SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **config}
    return made(hf.BertForMaskedLM, hf.BertConfig(**fields), seed).double()


def batch(model: Any) -> dict[str, Tensor]:
    inputs = dict(build("bert").inputs)
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :5].flip(0)
    return inputs


def forth(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """N(x) with y_1 = x_1 + F(x_2), y_2 = x_2 + G(y_1), in the letters of the paper."""
    x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    y1 = x1 + bend(w, "f", x2)
    return torch.cat([y1, x2 + bend(w, "g", y1)], dim=-1)


def back(w: dict[str, Tensor], y: Tensor) -> Tensor:
    """N⁻¹(y)."""
    y1, y2 = y[..., : y.shape[-1] // 2], y[..., y.shape[-1] // 2 :]
    x2 = y2 - bend(w, "g", y1)
    return torch.cat([y1 - bend(w, "f", x2), x2], dim=-1)


def bend(w: dict[str, Tensor], name: str, half: Tensor) -> Tensor:
    hidden = PHI["relu"](half @ w[f"{name}_down.weight"].T + w[f"{name}_down.bias"])
    return hidden @ w[f"{name}_up.weight"].T + w[f"{name}_up.bias"]


def weights(adapters: gw.Adapters, name: str) -> dict[str, Tensor]:
    shared = adapters.shared_of(name)
    assert shared is not None
    (coupling,) = shared.children()
    return dict(coupling.named_parameters())


def by_hand(plain: Any, adapters: gw.Adapters, names: list[str], inputs: dict[str, Any], head: str | None) -> Tensor:
    """The logits of an untouched copy with the adapters' formulas hooked in: N_1, N_2, … in front, N_2⁻¹, N_1⁻¹ behind."""
    model: Any = copy.deepcopy(plain)
    if head is not None:
        for path, module in adapters.head_of(head).items():
            own = {k: v for k, v in model.get_submodule(path).state_dict().items() if "decoder.weight" not in k}
            state = module.state_dict()
            model.get_submodule(path).load_state_dict({k: state[k] for k in own}, strict=False)

    def turned(_: nn.Module, __: Any, output: Any) -> Any:
        for name in names:
            output = forth(weights(adapters, name), output)
        return output

    def turned_back(_: nn.Module, args: tuple[Any, ...]) -> Any:
        (states,) = args
        for name in reversed(names):
            states = back(weights(adapters, name), states)
        return (states,)

    for site in adapters.sites:
        module = model.get_submodule(site.output.module)
        if site.kind == "embedding":
            module.register_forward_hook(turned)
        elif site.kind == "output_projection":
            module.register_forward_pre_hook(turned_back)
    return model(**inputs).logits


# -- the formula -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.02, 0.2])
def test_the_inverse_is_exact(size: float) -> None:
    coupling = Coupling(64, gw.InvertiblePfeiffer(dtype="float64"))
    unsettle([coupling], 1, size)
    x = torch.randn(4, 9, 64, dtype=torch.float64)
    w = dict(coupling.named_parameters())
    y = x + coupling(x)
    close(y, forth(w, x), 1e-14)
    close(x + coupling.back(x), back(w, x), 1e-14)
    close(y + coupling.back(y), x, 1e-12)
    z = x + coupling.back(x)
    close(z + coupling(z), x, 1e-12)
    assert float((y - x).abs().max()) > 1e-3


def test_296_064_weights_at_width_768() -> None:
    config = gw.InvertiblePfeiffer()
    torch.manual_seed(0)
    coupling = Coupling(768, config)
    assert sum(p.numel() for p in coupling.parameters()) == 296_064
    for name, p in coupling.named_parameters():
        assert not p.any() if name.endswith("bias") else float(p.detach().std()) == pytest.approx(0.02, rel=0.02)
    with torch.device("meta"):
        adapters = gw.attach(hf.BertForMaskedLM(hf.BertConfig()))
    adapters.add("en", config)
    adapters.add("plain", gw.Pfeiffer(reduction_factor=2))
    counted = {row.name: row.weights for row in adapters.summary().rows}
    assert counted["en"] == counted["plain"] + 296_064


@pytest.mark.parametrize("make", [masked_lm, "llama_causal", "t5_generation", "bart_generation"])
def test_a_model_equals_its_formula(make: Any) -> None:
    """Two in a stack, and each alone: the last one in is the first one out."""
    model = make() if callable(make) else build(make, torch.float64).model
    inputs, plain = batch(model), copy.deepcopy(model)
    adapters = gw.attach(model)
    for n, name in enumerate(("en", "de")):
        adapters.add(name, ENDS)
        lively(adapters, name, seed=n, size=0.3)
        kinds = sorted(adapters.sites[key].kind for key in adapters.modules_of(name))
        assert kinds == ["embedding"] * (1 + model.config.is_encoder_decoder) + ["output_projection"]
    with torch.no_grad():
        found = []
        for names in (["en"], ["de"], ["en", "de"], ["de", "en"]):
            composition = gw.Stack(*names)
            for head in (None, names[-1]) if adapters.head_paths else (None,):
                with adapters.using(composition, head=head):
                    found.append(model(**inputs).logits)
                close(found[-1], by_hand(plain, adapters, names, inputs, head), 1e-10)
        for n, one in enumerate(found):
            for other in found[n + 1 :]:
                assert float((one - other).abs().max()) > 1e-4


def test_with_its_layers_it_equals_the_formula() -> None:
    zoo = build("bert", torch.float64)
    plain: Any = copy.deepcopy(zoo.model)
    adapters = gw.attach(zoo.model)
    config = gw.InvertiblePfeiffer(dtype="float64")
    adapters.add("en", config)
    lively(adapters, "en", seed=1, size=0.3)
    modules = adapters.modules_of("en")
    plain.embeddings.register_forward_hook(lambda m, args, output: forth(weights(adapters, "en"), output))
    for n, layer in enumerate(plain.encoder.layer):

        def added(norm: nn.Module, args: Any, output: Tensor, n: int = n) -> Tensor:
            return norm.forward(args[0] + bottleneck(config, modules[f"encoder.layer.{n}.feed_forward"], output))

        layer.output.LayerNorm.register_forward_hook(added)
    with torch.no_grad(), adapters.using("en"):
        close(zoo.model(**zoo.inputs).last_hidden_state, plain(**zoo.inputs).last_hidden_state)


# -- rows, positions, generating ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [masked_lm, "llama_causal"])
def test_each_row_with_its_own(make: Any) -> None:
    """Where the adapters own a head (BERT's), each row has its adapter's, and the inverse in it."""
    model = make() if callable(make) else build(make, torch.float64).model
    inputs = batch(model)
    adapters = gw.attach(model)
    for n, name in enumerate(("en", "de")):
        adapters.add(name, ENDS)
        lively(adapters, name, seed=n, size=0.3)
    rows = ["de", None, gw.Stack("en", "de")]
    with torch.no_grad():
        alone = []
        for row in rows:
            with adapters.using(row):
                alone.append(model(**inputs).logits)
        for block in (gw.MixedBatch(rows), gw.BatchSplit(*rows, batch_sizes=[1, 1, 1])):
            with adapters.using(block):
                mixed = model(**inputs).logits
            for n, expected in enumerate(alone):
                close(mixed[n], expected[n])
        with adapters.using(gw.MixedBatch(["en", "de", "en"])):
            mixed = model(**inputs).logits
        with adapters.using("en"):
            close(mixed[[0, 2]], model(**inputs).logits[[0, 2]])
        with adapters.using(gw.Split("de", "de", splits=[3, 4])):
            close(model(**inputs).logits, alone[0])


@pytest.mark.parametrize("name", ["llama_causal", "t5_generation"])
def test_generating_with_a_cache_is_as_without(name: str) -> None:
    model = build(name, torch.float64).model
    model.generation_config.eos_token_id = None
    adapters = gw.attach(model)
    adapters.add("en", gw.InvertiblePfeiffer(dtype="float64"))
    lively(adapters, "en", seed=1, size=0.5)
    ids = batch(model)["input_ids"][:2, :4]
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False, "pad_token_id": 1}
    with adapters.using("en"):
        cached = model.generate(ids, **options)
        assert torch.equal(cached, model.generate(ids, **options, use_cache=False))
    assert not torch.equal(cached, model.generate(ids, **options))


def test_a_headed_base_that_computes_words_is_as_the_base_itself() -> None:
    model = masked_lm()
    inputs = batch(model)
    headed = gw.attach(gw.ModelWithHeads(copy.deepcopy(model)))
    adapters = gw.attach(model)
    for handle in (adapters, headed):
        torch.manual_seed(0)
        handle.add("en", ENDS)
        lively(handle, "en", seed=1, size=0.3)
        assert {key.rpartition(".")[2] for key in handle.modules_of("en")} == {"embedding", "output_projection"}
    headed.add_head("en", gw.heads.MaskedLM())
    with torch.no_grad(), headed.using("en"), adapters.using("en", head=None):
        close(headed.model(**inputs).logits, model(**inputs).logits)


def test_embeddings_from_outside_are_refused_where_they_would_not_be_adapted() -> None:
    model = build("llama_causal", torch.float64).model
    ids = batch(model)["input_ids"]
    adapters = gw.attach(model)
    adapters.add("en", ENDS)
    embeds = model.get_input_embeddings()(ids)
    model(inputs_embeds=embeds)
    adapters.active = gw.Stack("en")
    said = r"Stack\('en'\) adds to what 'model.embed_tokens' returns, and with inputs_embeds no token is looked up"
    with pytest.raises(gw.CompositionError, match=said):
        model(inputs_embeds=embeds)
    bert = masked_lm()
    there = gw.attach(bert)
    there.add("en", ENDS)
    with torch.no_grad(), there.using("en"):  # its site is behind the positions, where these pass too
        embeds = bert.bert.embeddings.word_embeddings(ids)
        close(bert(inputs_embeds=embeds).logits, bert(input_ids=ids).logits)


# -- heads are copied, models are copied -------------------------------------------------------------------------------


def test_copies_of_heads_and_models() -> None:
    model = masked_lm()
    inputs = batch(model)
    adapters = gw.attach(model)
    adapters.add("en", ENDS)
    lively(adapters, "en", seed=1, size=0.3)
    adapters.add("later", ENDS)
    for name in ("en", "later"):
        for module in adapters.head_of(name).values():
            assert not [path for path, _ in module.named_modules() if "graftwork" in path]
    adapters.active = "en"
    with torch.no_grad():
        expected = model(**inputs).logits
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(**inputs).logits, expected)
            unsettle([gw.of(twin).shared_of("en")], 3)  # the twin's own, and not the original's
            assert not torch.equal(twin(**inputs).logits, expected)
            assert torch.equal(model(**inputs).logits, expected)
        adapters.detach()
        assert torch.equal(model(**inputs).logits, masked_lm()(**inputs).logits)


def test_gradients_reach_it_through_the_head() -> None:
    model = masked_lm()
    adapters = gw.attach(model)
    adapters.add("en", gw.InvertiblePfeiffer())
    adapters.train_only("en")
    inputs = batch(model)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    shared = adapters.shared_of("en")
    assert shared is not None
    assert all(p.grad is not None and p.grad.any() for p in shared.parameters())


def test_from_a_language_model_to_a_tagger(tmp_path: Path) -> None:
    """Trained where there is a vocabulary, used where there is none: N alone stands there."""
    language = masked_lm()
    adapters = gw.attach(language)
    adapters.add("en", ENDS)
    lively(adapters, "en", seed=1, size=0.3)
    adapters.save("en", tmp_path / "en")
    tagger = made(hf.BertForTokenClassification, hf.BertConfig(**SMALL, num_labels=3)).double()
    tagger.bert.load_state_dict(language.bert.state_dict(), strict=False)
    plain = copy.deepcopy(tagger.bert)
    there = gw.attach(tagger)
    there.load(tmp_path / "en", head=False)
    there.add("ner", gw.Pfeiffer(dtype="float64"))
    assert [key.rpartition(".")[2] for key in there.modules_of("en")] == ["embedding"]
    plain.embeddings.register_forward_hook(lambda m, args, output: forth(weights(adapters, "en"), output))
    inputs = batch(tagger)
    with torch.no_grad(), there.using("en", head=None):
        close(tagger.bert(**inputs).last_hidden_state, plain(**inputs).last_hidden_state)
    there.train_only("ner", active=gw.Stack("en", "ner"))
    assert not any(p.requires_grad for p in there.shared_of("en").parameters())  # type: ignore[union-attr]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "composition",
    [
        gw.Average("en", "de"),
        gw.Average("en", None),
        gw.Average("task", gw.Stack("en", "task")),
        gw.Stack("task", gw.MixedBatch(["en", gw.Average("de", "task"), None])),
    ],
)
def test_it_cannot_be_weighed(composition: gw.Composition) -> None:
    adapters = gw.attach(build("bert").model)
    for name in ("en", "de"):
        adapters.add(name, gw.InvertiblePfeiffer())
    adapters.add("task", gw.Pfeiffer())
    said = r"Average\(.*'(en|de)' cannot be weighed at encoder.layer.0.embedding, .*another inverse; use Stack.*invertible=False"
    with pytest.raises(gw.CompositionError, match=said):
        adapters.active = composition
    adapters.active = gw.Stack("en", gw.Average("task", None))


def test_without_the_invertible_one_it_is_weighed() -> None:
    adapters = gw.attach(build("bert").model)
    for name in ("en", "de"):
        adapters.add(name, gw.InvertiblePfeiffer(invertible=False))
        assert adapters.shared_of(name) is None
    adapters.add_fusion(gw.Fuse("en", "de", name="both"))
    adapters.active = gw.Fuse("en", "de", name="both")


def test_halves_that_are_not_there() -> None:
    model = nn.Sequential()
    model.embed = nn.Linear(5, 5)
    model.dense = nn.Linear(5, 5)
    sites = [
        gw.Site("", 0, "feed_forward", "dense", gw.Tap("dense", "output"), 5, residual=gw.Tap("dense", "input", 0)),
    ]
    adapters = gw.attach(model, sites=sites)
    with pytest.raises(gw.SiteError, match="no site of the kind embedding; give one, or invertible=False"):
        adapters.add("en", gw.InvertiblePfeiffer())
    adapters.detach()
    adapters = gw.attach(model, sites=[*sites, gw.Site("", 0, "embedding", "embed", gw.Tap("embed", "output"), 5)])
    with pytest.raises(gw.ConfigError, match="5 wide, which has no two halves; give invertible=False"):
        adapters.add("en", gw.InvertiblePfeiffer())


def test_a_vocabulary_of_another_width_is_refused() -> None:
    config = hf.AlbertConfig(**SMALL, embedding_size=16)
    adapters = gw.attach(made(hf.AlbertForMaskedLM, config))
    said = r"output_projection is 16 wide, and the embeddings are 32, .*invertible=False"
    with pytest.raises(gw.ConfigError, match=said):
        adapters.add("en", gw.InvertiblePfeiffer())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sites": ("feed_forward", "embedding")}, r"sites is \('feed_forward', 'embedding'\).*stands its invertible"),
        ({"invertible": 1}, "invertible is 1"),
        ({"invertible_reduction": 0}, "invertible_reduction is 0"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=f"InvertiblePfeiffer: {said}"):
        gw.InvertiblePfeiffer(**options)


def test_built_without_what_is_shared() -> None:
    site = gw.Site("layers", 0, "embedding", "embed", gw.Tap("embed", "output"), 8)
    from graftwork.methods import Place

    with pytest.raises(gw.ConfigError, match=r"build\(place, None\) lacks N"):
        gw.InvertiblePfeiffer().build(Place(site, 1))


# -- inputs are written to ---------------------------------------------------------------------------------------------


class Named(nn.Module):
    """Calls its projection with a keyword, by position, or with both forms of its second input."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.project = nn.Bilinear(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "name":
            return self.project(input1=x, input2=x)
        return self.project(x, x) if self.how == "position" else self.project(x, input2=x)


@pytest.mark.parametrize("how", ["name", "position", "both"])
@pytest.mark.parametrize("slot", [1, "input2"])
def test_an_input_is_written_whichever_way_it_is_given(how: str, slot: int | str) -> None:
    model = Named(how).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    sites = [gw.Site("", 0, "output_projection", "project", gw.Tap("project", "input", slot), 4)]
    adapters = gw.attach(model, sites=sites)
    config = gw.Bottleneck(sites=("output_projection",), dtype="float64")
    adapters.add("a", config)
    lively(adapters, "a", seed=1)
    (module,) = adapters.modules_of("a").values()
    with torch.no_grad(), adapters.using("a"):
        close(model(x), model.project.forward(x, x + bottleneck(config, module, x)))
