"""Which modules are the head: found where a model is its own base, in wrappers, or given; never frozen in silence."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import bert_classifier, ids, lively, made


def output(model: Any, inputs: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        found = model(**inputs)
    return found.get("start_logits", found.get("logits"))  # type: ignore[no-any-return]


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
IMAGES = {**TINY, "image_size": 8, "patch_size": 4}


def clip(cls: Any) -> Any:
    parts = {"text_config": {**TINY, "vocab_size": 50}, "vision_config": {**IMAGES, "projection_dim": 8}}
    return made(cls, hf.CLIPConfig(**parts, num_labels=3))


def siglip() -> Any:
    parts = {"text_config": {**TINY, "vocab_size": 50}, "vision_config": IMAGES}
    return made(hf.SiglipForImageClassification, hf.SiglipConfig(**parts, num_labels=3))


def t5() -> Any:
    config = hf.T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return made(hf.T5ForQuestionAnswering, config)


def whisper(**more: Any) -> Any:
    layers = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("layers", 2), ("ffn_dim", 64))}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = hf.WhisperConfig(
        vocab_size=60, d_model=32, num_mel_bins=8, max_source_positions=20, pad_token_id=0, **layers, **heads, **more
    )
    return made(hf.WhisperForAudioClassification, config)


def depth() -> Any:
    backbone = hf.Dinov2Config(
        **TINY, image_size=14, patch_size=7, out_features=["stage1", "stage2"], reshape_hidden_states=False
    )
    return made(
        hf.DepthAnythingForDepthEstimation,
        hf.DepthAnythingConfig(
            backbone_config=backbone, reassemble_hidden_size=32, patch_size=7, neck_hidden_sizes=[8, 8],
            reassemble_factors=[1, 1], fusion_hidden_size=8, head_hidden_size=4,
        ),
    )  # fmt: skip


IMAGE = {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))}
SOUND = {"input_features": torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(0))}
CASES: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "CLIP": (lambda: clip(hf.CLIPForImageClassification), IMAGE, ("classifier",)),
    "SigLIP": (siglip, IMAGE, ("classifier",)),
    "T5": (t5, {"input_ids": ids() % 50}, ("qa_outputs",)),
    "Whisper": (whisper, SOUND, ("projector", "classifier")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_head_of_a_model_that_is_its_own_base(case: str) -> None:
    make, inputs, paths = CASES[case]
    model = make()
    plain = output(model, inputs)
    adapters = gw.attach(model)
    assert adapters.head_paths == paths
    for name in "ab":
        adapters.add(name, gw.Pfeiffer(init="zero"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        adapters.train_only("a")
    learning = [n for n, p in model.named_parameters() if p.requires_grad and "heads" in n]
    assert len(learning) == 2 * len(paths)
    assert torch.equal(output(model, inputs), plain)
    lively(adapters, "a")
    assert not torch.equal(output(model, inputs), plain)
    with adapters.using("b"):
        assert torch.equal(output(model, inputs), plain)


def test_neck_and_head_behind_a_backbone() -> None:
    assert gw.attach(depth(), sites=()).head_paths == ("neck", "head")


def test_a_model_without_a_task_has_none() -> None:
    for model in (clip(hf.CLIPModel), clip(hf.CLIPModel).vision_model):
        adapters = gw.attach(model)
        assert adapters.head_paths == adapters.unclear_heads == ()


def test_a_parameter_that_is_part_of_a_head_is_named() -> None:
    model = whisper(use_weighted_layer_sum=True)
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer())
    with pytest.warns(UserWarning, match=r"train_only\('a'\): layer_weights of this WhisperForAudioClassification"):
        adapters.train_only("a")


class Own(nn.Module):
    """A module of one's own around a base."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = bert_classifier().bert
        self.classifier = nn.Linear(32, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.classifier(self.inner(input_ids).last_hidden_state[:, 0])  # type: ignore[no-any-return]


def test_a_head_in_a_module_of_ones_own_is_named_or_given() -> None:
    inputs = {"input_ids": ids()}
    model = Own()
    adapters = gw.attach(model, example_inputs=inputs)
    adapters.add("a", gw.Pfeiffer())
    with pytest.warns(UserWarning, match=r"classifier of this Own does not learn.*heads=\[...\]"):
        adapters.train_only("a")
    with pytest.raises(gw.AttachError, match="attached already"):
        gw.attach(model, heads=["classifier"])
    adapters.detach()
    for heads, expected in ((["classifier"], 2), ((), 0)):
        adapters = gw.attach(model, example_inputs=inputs, heads=heads)
        adapters.add("a", gw.Pfeiffer())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            adapters.train_only("a")
        assert len([n for n, p in model.named_parameters() if p.requires_grad and "heads" in n]) == expected
        adapters.detach()
    for wrong in (["classifer"], "classifier", [""]):
        with pytest.raises(gw.AttachError, match="paths of modules with weights in this Own"):
            gw.attach(model, example_inputs=inputs, heads=wrong)


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_a_head_of_words_follows_a_vocabulary_that_is_resized(kind: str, tmp_path: Any) -> None:
    def make() -> Any:
        config = getattr(hf, f"{kind}Config")(**TINY, vocab_size=50, max_position_embeddings=64)
        return made(getattr(hf, f"{kind}ForMaskedLM"), config)

    model, tokens = make(), {"input_ids": ids() % 46 + 4}
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer())
    lively(adapters, "a")
    adapters.active = "a"
    before = output(model, tokens)
    for words in (57, 53):
        model.resize_token_embeddings(words, mean_resizing=False)
        found = output(model, tokens)
        assert found.shape[-1] == words
        torch.testing.assert_close(found[..., :50], before)
    adapters.train_only("a")
    model(input_ids=torch.full((1, 4), 52), labels=torch.full((1, 4), 52)).loss.backward()
    adapters.save("a", tmp_path / "a")
    other = make()
    other.resize_token_embeddings(53, mean_resizing=False)
    other.load_state_dict({k: v for k, v in model.state_dict().items() if "graftwork" not in k})
    gw.attach(other).load(tmp_path / "a")
    gw.of(other).active = "a"
    torch.testing.assert_close(output(other, tokens), output(model, tokens))


def test_tied_weights_are_written_once_and_read_under_all_names(tmp_path: Any) -> None:
    from safetensors.torch import load_file, save_file

    def make(seed: int) -> Any:
        config = hf.BertConfig(**TINY, vocab_size=50, tie_word_embeddings=True)
        return gw.ModelWithHeads(made(hf.BertForMaskedLM, config, seed))

    one, other = make(0), make(1)
    save_file(one.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for name, p in one.named_parameters(remove_duplicate=False):
        assert torch.equal(p, other.get_parameter(name)), name
