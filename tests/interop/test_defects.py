"""The defects of AdapterHub's library, version 1.3.0, that docs/interop.md lists: each is there, by a test of its number.

What ours does in their place is shown by the tests that the table names. A test here that fails says that a later version is right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from tests.interop.common import SMALL, ah, move, run, theirs
from tests.support.attached import made
from tests.zoo.models import build

INPUTS = {"input_ids": torch.randint(4, 90, (3, 7), generator=torch.Generator().manual_seed(0))}


def with_adapters(**configs: Any) -> Any:
    """A BERT with adapters of theirs, every weight moved off its start."""
    model = build("bert").model
    for name, config in configs.items():
        theirs(model, config, name)
    return model


def under(model: Any, setup: Any) -> torch.Tensor:
    model.set_active_adapters(setup)
    return run(model, INPUTS)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def test_1_an_average_of_an_adapter_and_its_twin_is_another_function() -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.SeqBnConfig(**SMALL))
    state = model.state_dict()
    model.load_state_dict({key: state[key.replace(".adapters.b.", ".adapters.a.")] for key in state})
    assert apart(under(model, "a"), under(model, "b")) == 0
    assert apart(under(model, ah.composition.Average("a", "b")), under(model, "a")) > 0.1


def test_2_a_stack_in_a_batch_split_is_another_function() -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.SeqBnConfig(**SMALL), c=ah.SeqBnConfig(**SMALL))
    found = under(model, ah.BatchSplit(ah.Stack("a", "b"), "c", batch_sizes=[2, 1]))
    assert apart(found[:2], under(model, ah.Stack("a", "b"))[:2]) > 0.1


def test_3_rows_of_sequential_and_parallel_adapters_are_another_function() -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.ParBnConfig(**SMALL))
    found = under(model, ah.BatchSplit("a", "b", batch_sizes=[2, 1]))
    assert max(apart(found[:2], under(model, "a")[:2]), apart(found[2:], under(model, "b")[2:])) > 0.1


def test_4_an_interface_gives_every_layer_the_norm_of_the_last() -> None:
    model = build("gemma3").model
    ah.init(model)
    norms = []
    for _, layer in model.base_model.iter_layers():
        hooks = [h for module in layer.modules() for h in module._forward_hooks.values() if hasattr(h, "func")]
        norms += [hook.args[1]() for hook in hooks if hook.args[0] is layer.output_adapters]
    assert len(norms) > 1 and all(norm is norms[-1] for norm in norms)


def test_5_a_merged_dora_is_never_taken_out_again() -> None:
    model = with_adapters(a=ah.DoRAConfig(r=3, alpha=3))
    before = model.encoder.layer[0].attention.self.query.weight.detach().clone()
    model.merge_adapter("a")
    model.reset_adapter()
    assert apart(model.encoder.layer[0].attention.self.query.weight.detach(), before) > 1e-3


def test_6_vera_trains_a_whole_matrix_where_the_method_has_a_vector() -> None:
    model = with_adapters(a=ah.VeraConfig(r=4))
    (lora,) = model.encoder.layer[0].attention.self.query.loras.values()
    assert lora.vera_B.shape == (32, 32) and lora.vera_B.requires_grad


def test_7_the_pull_of_a_fusion_to_the_identity_comes_with_every_configuration() -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.SeqBnConfig(**SMALL))
    block = ah.Fuse("a", "b")
    model.add_adapter_fusion(block, ah.DynamicAdapterFusionConfig(regularization=False))
    model.train_adapter_fusion(block)
    move(model, "a,b")
    assert model.get_fusion_regularization_loss().item() > 0


def test_8_two_evaluations_with_a_temperature_differ() -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.SeqBnConfig(**SMALL))
    block = ah.Fuse("a", "b")
    model.add_adapter_fusion(block, ah.DynamicAdapterFusionConfig(temperature=True))
    move(model, "a,b")
    assert apart(under(model, block), under(model, block)) > 0


def test_9_a_setup_with_a_named_fusion_is_not_read_again(tmp_path: Path) -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.SeqBnConfig(**SMALL))
    block = ah.Fuse("a", "b", name="both")
    model.add_adapter_fusion(block, "dynamic")
    model.save_adapter_setup(tmp_path / "s", block)
    again = build("bert").model
    ah.init(again)
    with pytest.raises(ValueError, match="directory where AdapterFusion is saved"):
        again.load_adapter_setup(str(tmp_path / "s"), set_active=True)


def test_10_a_direft_comes_back_as_another_function(tmp_path: Path) -> None:
    model = with_adapters(a=ah.DiReftConfig(r=2))
    expected = under(model, "a")
    model.save_adapter(tmp_path / "a", "a")
    again = build("bert").model
    ah.init(again)
    again.load_adapter(str(tmp_path / "a"), set_active=True)
    assert apart(run(again.eval(), INPUTS), expected) > 0.01


def test_10_a_loreft_is_saved_with_a_square_matrix_for_each_unit(tmp_path: Path) -> None:
    model = with_adapters(a=ah.LoReftConfig(r=2))
    model.save_adapter(tmp_path / "a", "a")
    tensors = torch.load(tmp_path / "a" / "pytorch_adapter.bin")
    assert [key for key, tensor in tensors.items() if tensor.shape == (32, 32)]


def test_11_two_methods_have_one_hash() -> None:
    from adapters.utils import get_adapter_config_hash

    options = {"reduction_factor": 4, "non_linearity": "gelu"}
    one, other = ah.CompacterPlusPlusConfig(**options), ah.SeqBnConfig(**options)
    assert get_adapter_config_hash(one.to_dict()) == get_adapter_config_hash(other.to_dict())


def test_12_a_file_that_lacks_weights_is_loaded_without_an_error(tmp_path: Path) -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL))
    model.save_adapter(tmp_path / "a", "a")
    path = tmp_path / "a" / "pytorch_adapter.bin"
    tensors = torch.load(path)
    torch.save({key: t for key, t in tensors.items() if "adapter_up" not in key}, path)
    again = build("bert").model
    ah.init(again)
    assert again.load_adapter(str(tmp_path / "a")) == "a"


def test_13_a_fusion_is_saved_with_those_whose_names_begin_alike(tmp_path: Path) -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.SeqBnConfig(**SMALL), c=ah.SeqBnConfig(**SMALL))
    for pool in (["a", "b"], ["a", "b", "c"]):
        model.add_adapter_fusion(pool, "dynamic")
    model.save_adapter_fusion(tmp_path / "f", "a,b")
    tensors = torch.load(tmp_path / "f" / "pytorch_model_adapter_fusion.bin")
    assert [key for key in tensors if ".a,b,c." in key]


@pytest.mark.parametrize("config", [ah.PrefixTuningConfig(prefix_length=3), ah.UniPELTConfig()])
def test_14_weights_that_layers_share_cannot_be_saved_as_safetensors(config: Any, tmp_path: Path) -> None:
    model = with_adapters(a=config)
    with pytest.raises(RuntimeError, match="share memory"):
        model.save_adapter(tmp_path / "a", "a", use_safetensors=True)


def test_15_options_that_raise_and_a_seed_that_makes_all_layers_alike() -> None:
    for config in (
        ah.SeqBnConfig(**SMALL, inv_adapter="glow", inv_adapter_reduction_factor=4),
        ah.ParBnConfig(**SMALL, scaling=1),
    ):
        model = build("bert").model
        ah.init(model)
        with pytest.raises((RuntimeError, ValueError), match=r"size of tensor|Unknown scaling type: 1"):
            model.add_adapter("a", config=config)
            under(model, "a")
    model = build("bert").model
    ah.init(model)
    model.add_adapter("a", config=ah.SeqBnConfig(**SMALL, init_weights_seed=3))
    downs = [t for key, t in model.named_parameters() if key.endswith("adapter_down.0.weight")]
    assert torch.equal(downs[0], downs[1])


def test_16_over_a_base_in_half_precision_a_forward_pass_raises() -> None:
    model = build("bert", torch.bfloat16).model
    ah.init(model)
    model.add_adapter("a", config=ah.SeqBnConfig(**SMALL))
    with pytest.raises(RuntimeError, match="dtype"):
        under(model, "a")


def test_17_checkpointing_heads_names_and_dropout() -> None:
    model = with_adapters(a=ah.SeqBnConfig(**SMALL), b=ah.SeqBnConfig(**SMALL))
    model.train_adapter(ah.Parallel("a", "b"))
    model.train()(**INPUTS).last_hidden_state.sum().backward()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises((RuntimeError, ValueError)):
        model(**INPUTS).last_hidden_state.sum().backward()
    with pytest.raises(KeyError):
        with_adapters(**{"a.b": ah.SeqBnConfig(**SMALL)})
    headed = made(hf.BertForSequenceClassification, build("bert").model.config)
    flexible = ah.BertAdapterModel(headed.config)
    for name in "ab":
        flexible.add_adapter(name, config=ah.SeqBnConfig(**SMALL))
        flexible.add_classification_head(name)
    flexible.train_adapter("a")
    assert [key for key, p in flexible.named_parameters() if key.startswith("heads.b.") and p.requires_grad]
