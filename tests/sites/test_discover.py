"""Discovery end to end, on the zoo and on models in every state they come in."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from graftwork.errors import SiteError
from graftwork.sites import SiteMap, discover
from graftwork.sites.discovery.confirm import confirm_sites
from graftwork.sites.discovery.discover import observe
from tests.support.toy_models import IDS, WIDTH, Block, Model
from tests.zoo.models import build, build_or_skip, names

BRANCHES = ("attention", "cross_attention", "feed_forward", "mixer", "composite")


@pytest.mark.parametrize("name", names())
def test_the_published_form_is_found_and_true(name):
    """Kinds and norms of every layer; and half a unit added at a site moves the next sum by half, times the scale."""
    zoo = build_or_skip(name, dtype=torch.float64)
    sites = discover(zoo.model, zoo.inputs, confirm=True)
    found = {
        stack: [tuple(site.kind for site in layer if site.kind in BRANCHES) for layer in sites.layers(stack).values()]
        for stack in sites.stacks
    }
    assert found == {stack: [kinds] * layers for stack, (layers, kinds) in zoo.expected.stacks.items()}
    branches = sites.of_kind(*BRANCHES)
    assert all((site.norm is not None) == (zoo.expected.norm == "post") for site in branches)
    assert all(
        site.residual is not None and site.layer_input is not None and site.input is not None for site in branches
    )
    assert all(site.residual.module != site.block for site in branches if site.residual is not None)
    assert len(sites.of_kind("layer")) == sum(layers for layers, _ in zoo.expected.stacks.values())
    assert SiteMap.from_json(sites.to_json()) == sites


@pytest.mark.parametrize("name", [n for n in names() if not n.startswith(("torch_", "timm_"))])
def test_inputs_are_made_where_none_are_given(name):
    zoo = build_or_skip(name)
    assert discover(zoo.model) == discover(zoo.model, zoo.inputs)


def test_real_and_fake_runs_agree():
    model = build("bert").model

    class NeedsNumbers(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids):
            if input_ids.sum().item() < 0:
                raise AssertionError
            return self.model(input_ids)

    (seen,) = observe(NeedsNumbers(), {"input_ids": IDS})
    assert not seen.fake
    keys = [f.site.key for f in seen.findings.sites]
    assert keys == [f"model.{f.site.key}" for f in observe(model)[0].findings.sites]


def test_train_mode_bf16_and_meta():
    expected = discover(build("llama").model)
    model = build("llama").model.to(torch.bfloat16).train()
    assert discover(model) == expected
    assert model.training
    assert discover(build("llama").model.to("meta")) == expected


def test_a_model_on_meta_may_look_at_its_inputs_and_not_at_its_weights():
    class Asks(Model):
        about = "ids"

        def forward(self, ids):
            asked = ids if self.about == "ids" else self.embed.weight
            if (asked < 0).any():
                raise AssertionError
            return super().forward(ids)

    expected = discover(Model(), (IDS,))
    model = Asks().to("meta")
    assert [site.key for site in discover(model, (IDS,))] == [site.key for site in expected]
    model.about = "weights"
    with pytest.raises(SiteError, match=r"on fake tensors, .*\n.*on fake weights and known inputs, .*DataDependent"):
        discover(model, (IDS,))


def test_gradient_checkpointing_changes_nothing():
    model = build("bert").model
    expected = discover(model)
    model.train()
    model.gradient_checkpointing_enable()
    assert discover(model) == expected


def test_lora_is_inside_the_tapped_module():
    peft = pytest.importorskip("peft")
    plain = build("bert").model
    expected = [site.output for site in discover(plain).of_kind("attention", "feed_forward")]
    model = peft.inject_adapter_in_model(peft.LoraConfig(target_modules="all-linear", r=2), build("bert").model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = discover(model)
    assert [site.output for site in found.of_kind("attention", "feed_forward")] == expected
    assert any("lora_A" in name for name, _ in model.named_parameters())


def test_inside_peft_s_wrapper():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], r=2)
    sites = discover(peft.get_peft_model(build("bert_classifier").model, config))
    plain = discover(build("bert_classifier").model)
    assert sites.prefix == "base_model.model.bert."
    assert [sites.key_of(site) for site in sites] == [plain.key_of(site) for site in plain]


def test_the_user_s_model_is_as_it_was():
    zoo = build("bert_classifier")
    before = copy.deepcopy(zoo.model.state_dict())
    with torch.no_grad():
        logits = zoo.model(**zoo.inputs).logits
    config = zoo.model.config.to_json_string()
    discover(zoo.model)
    assert zoo.model.config.to_json_string() == config
    assert all(torch.equal(value, before[key]) for key, value in zoo.model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(zoo.model(**zoo.inputs).logits, logits)


def test_prefix_and_norms():
    sites = discover(build("bert_classifier").model)
    base = discover(build("bert").model)
    assert (sites.prefix, base.prefix) == ("bert.", "")
    assert [sites.key_of(site) for site in sites] == [base.key_of(site) for site in base]
    assert list(sites.norms) == [f"bert.{norm}" for norm in base.norms]
    assert base.norms[0] == "embeddings.LayerNorm"
    assert len(base.norms) == 5


@pytest.mark.parametrize("tower", ["vit", "clip"])
def test_sub_models_that_the_run_did_not_reach_are_looked_at_or_named(tower):
    zoo = build(tower)
    image, stacks = (zoo.model, zoo.expected.stacks) if tower == "vit" else (zoo.model.vision_model, ["encoder.layers"])

    class Both(nn.Module):
        main_input_name = "input_ids"

        def __init__(self):
            super().__init__()
            self.text, self.image = build("bert").model, copy.deepcopy(image)
            self.config = self.text.config
            self.image.forward_is_fine = True

        def forward(self, input_ids):
            return self.text(input_ids)

    assert set(discover(Both()).stacks) == {"text.encoder.layer", *(f"image.{stack}" for stack in stacks)}
    model = Both()
    model.image.embeddings = nn.Identity()
    with pytest.warns(UserWarning, match="image of this Both gets no sites.*pass example_inputs="):
        assert set(discover(model).stacks) == {"text.encoder.layer"}


def test_confirming_finds_what_is_not_true():
    model = Model().double()
    (seen,) = observe(model, (IDS,))
    confirm_sites(model, seen.run, seen.findings.sites)

    class Clipped(Block):
        def add(self, x, y, which):
            return x + y.clamp(-0.01, 0.01)

    with pytest.raises(SiteError, match=r"blocks\.0\.attention: the sum moved by"):
        discover(Model(Clipped).double(), (IDS,), confirm=True)


class Prompted(Model):
    """Layers over prompts, which run only where there are any."""

    def __init__(self):
        super().__init__()
        self.prompts = nn.ModuleList(Block() for _ in range(2))

    def forward(self, ids, prompts=None):
        x = self.embed(ids)
        for block in self.prompts if prompts is not None else ():
            x = block(x + prompts)
        for block in self.blocks:
            x = block(x)
        return x


def test_layers_that_the_example_did_not_reach_are_named():
    with pytest.warns(UserWarning, match=r"^prompts of this Prompted get no sites: the example run did not reach them"):
        sites = discover(Prompted(), {"ids": IDS})
    assert set(sites.stacks) == {"blocks"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sites = discover(Prompted(), {"ids": IDS, "prompts": torch.randn(2, 5, WIDTH)})
    assert set(sites.stacks) == {"prompts", "blocks"}
