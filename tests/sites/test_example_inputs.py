"""Inputs that are made where the caller gives none."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn

from graftwork.errors import SiteError
from graftwork.sites import discover
from graftwork.sites.discovery.example_inputs import BATCH, LENGTH, inputs_for, runs_of_parts, runs_to_try
from tests.zoo.models import build


def shapes(inputs: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in inputs.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert", {"input_ids": [BATCH, LENGTH]}),
        ("t5", {"input_ids": [BATCH, LENGTH], "decoder_input_ids": [BATCH, LENGTH]}),
        ("vit", {"pixel_values": [BATCH, 3, 16, 16]}),
        ("clip", {"input_ids": [BATCH, LENGTH], "pixel_values": [BATCH, 3, 16, 16]}),
    ],
)
def test_by_the_names_of_the_arguments(name, expected):
    assert shapes(inputs_for(build(name).model)) == expected


def test_whisper_takes_mel_bins_first_and_one_length():
    model = build("whisper").model
    config = model.config
    made = shapes(inputs_for(model))
    assert made["input_features"] == [BATCH, config.num_mel_bins, 2 * config.max_source_positions]
    assert set(made) == {"input_features", "decoder_input_ids"}


def test_token_ids_end_in_the_one_end_token():
    config = hf.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0)
    config.eos_token_id = 3
    ids = inputs_for(hf.BertModel(config))["input_ids"]
    assert (ids[:, -1] == 3).all()
    assert not ((ids[:, :-1] == 3) | (ids == 0)[:, :-1]).any()
    assert ids.max() < 20


def test_floats_have_the_model_s_type():
    model = build("vit").model.to(torch.bfloat16)
    assert inputs_for(model)["pixel_values"].dtype == torch.bfloat16


def test_a_tower_of_patches_and_grids():
    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = hf.PretrainedConfig(patch_size=2, temporal_patch_size=2, in_channels=3, spatial_merge_size=2)
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, hidden_states, grid_thw):
            return hidden_states

    made = inputs_for(Tower())
    assert shapes(made) == {"hidden_states": [16, 24], "grid_thw": [1, 3]}
    assert made["grid_thw"].tolist() == [[1, 4, 4]]


def test_several_modalities_are_tried_together_and_then_text_alone():
    both, text = runs_to_try(build("clip").model, None)
    assert set(both.kwargs) == {"input_ids", "pixel_values"}
    assert set(text.kwargs) == {"input_ids"}


def test_a_head_with_inputs_of_another_form():
    config = hf.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    sites = discover(hf.BertForMultipleChoice(config))
    assert sites.stacks == {"bert.encoder.layer": 1}


@pytest.mark.parametrize(
    ("given", "args", "kwargs"),
    [
        ({"x": torch.zeros(1)}, 0, {"x"}),
        ((torch.zeros(1), 3), 2, set()),
        (torch.zeros(1), 1, set()),
    ],
)
def test_what_the_caller_gives_is_taken(given, args, kwargs):
    (run,) = runs_to_try(nn.Identity(), given)
    assert (len(run.args), set(run.kwargs)) == (args, kwargs)


def test_without_a_configuration_they_are_asked_for():
    with pytest.raises(SiteError, match=r"no inputs can be made for a Linear.*example_inputs="):
        runs_to_try(nn.Linear(1, 1), None)


def test_parts_are_the_outermost_sub_models_not_reached():
    model = build("clip").model
    assert [run.entry for run in runs_of_parts(model, frozenset())] == ["text_model", "vision_model"]
    assert [run.entry for run in runs_of_parts(model, frozenset({"text_model", "text_model.embeddings"}))] == [
        "vision_model"
    ]


def test_a_plain_module_is_a_part_if_it_takes_a_modality_and_has_its_own_configuration():
    class Configured(nn.Module):
        def __init__(self, config, **children):
            super().__init__()
            self.config = config
            for name, child in children.items():
                setattr(self, name, child)

    class Takes(Configured):
        def forward(self, pixel_values):
            return pixel_values

    class TakesStates(Configured):
        def forward(self, hidden_states):
            return hidden_states

    whole, image = hf.PretrainedConfig(), hf.ViTConfig(image_size=4)
    tower = Takes(image, embeddings=Takes(image))
    model = Configured(whole, embeddings=Takes(whole), encoder=TakesStates(image), vision=nn.ModuleDict({"a": tower}))
    (part,) = runs_of_parts(model, frozenset())
    assert (part.entry, shapes(part.kwargs)) == ("vision.a", {"pixel_values": [BATCH, 3, 4, 4]})
    assert not list(runs_of_parts(model, frozenset({"vision.a", "vision.a.embeddings"})))
