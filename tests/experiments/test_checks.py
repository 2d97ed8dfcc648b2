"""What is refused before anything is read or trained: a base that does not fit the tasks, a library that is not there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.experiments import Recipe, estimate, run
from graftwork.experiments.planning.checks import check_before
from tests.support.tiny_run import make_tiny

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}
BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def made(length: int, **tables: Any) -> Recipe:
    return Recipe.make({"base": {"model": "b", "max_length": length}, "tasks": {"a": {"train": "a.csv"}}, **tables})


CONFIGS: list[tuple[str, Callable[[], Any], int | None]] = [
    ("bert", lambda: hf.BertConfig(**SMALL, max_position_embeddings=40), 40),
    ("roberta", lambda: hf.RobertaConfig(**SMALL, max_position_embeddings=42), 40),
    ("mpnet", lambda: hf.MPNetConfig(**SMALL, max_position_embeddings=42), 40),
    (
        "distilbert",
        lambda: hf.DistilBertConfig(dim=16, n_layers=1, n_heads=2, vocab_size=20, max_position_embeddings=40),
        40,
    ),
    ("gpt2", lambda: hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=40), 40),
    (
        "opt",
        lambda: hf.OPTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=40),
        40,
    ),
    ("bart", lambda: hf.BartConfig(**BART, max_position_embeddings=40), 40),
    (
        "deberta",
        lambda: hf.DebertaV2Config(
            **SMALL, max_position_embeddings=40, relative_attention=True, position_biased_input=False
        ),
        None,
    ),
    ("t5", lambda: hf.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, n_positions=40), None),
    ("llama", lambda: hf.LlamaConfig(**SMALL, max_position_embeddings=40), None),
    ("xlnet", lambda: hf.XLNetConfig(d_model=16, n_layer=1, n_head=2), None),
]


@pytest.mark.parametrize(("config", "most"), [case[1:] for case in CONFIGS], ids=[case[0] for case in CONFIGS])
def test_more_tokens_than_the_base_has_positions_for(
    config: Callable[[], Any], most: int | None, tmp_path: Path
) -> None:
    config().save_pretrained(tmp_path)
    if most is None:
        check_before(made(4000), str(tmp_path))
        return
    check_before(made(most), str(tmp_path))
    with pytest.raises(
        gw.RecipeError,
        match=rf"base\.max_length is {most + 1}, and base\.model = 'b' has .* {most} tokens; give {most}",
    ):
        check_before(made(most + 1), str(tmp_path))
    with pytest.raises(gw.RecipeError, match=r"tasks\.a\.max_length is 512, "):
        check_before(made(most, tasks={"a": {"train": "a.csv", "max_length": 512}}), str(tmp_path))
    with torch.device("cpu"):
        model = hf.AutoModel.from_config(config()).eval()
    tokens = torch.full((1, most), 3)
    model(input_ids=tokens)  # and one more is too many for the model as well
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, most + 1), 3))


def test_virtual_tokens_take_positions_too(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    hf.BertConfig(**SMALL, max_position_embeddings=40).save_pretrained(tmp_path)
    prompt = {
        "method": "peft",
        "peft": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10, "task_type": "FEATURE_EXTRACTION"},
    }
    check_before(made(30, adapter=prompt), str(tmp_path))
    with pytest.raises(gw.RecipeError, match=r"base\.max_length \(with 10 virtual tokens in front\) is 41"):
        check_before(made(31, adapter=prompt), str(tmp_path))


def test_what_is_written_has_positions_too(tmp_path: Path) -> None:
    hf.BartConfig(**BART, max_position_embeddings=40).save_pretrained(tmp_path)
    task = {"kind": "text_to_text", "train": "a.csv"}
    with pytest.raises(gw.RecipeError, match=r"tasks\.a\.max_new_tokens is 64, .* 40 tokens"):
        check_before(made(32, tasks={"a": task}), str(tmp_path))
    with pytest.raises(gw.RecipeError, match=r"tasks\.a\.max_target_length is 50"):
        check_before(made(32, tasks={"a": {**task, "max_new_tokens": 30, "max_target_length": 50}}), str(tmp_path))
    check_before(made(32, tasks={"a": {**task, "max_new_tokens": 30}}), str(tmp_path))


def test_images_and_texts_on_a_base_of_the_other(tmp_path: Path) -> None:
    hf.BertConfig(**SMALL).save_pretrained(tmp_path / "bert")
    hf.ViTConfig(image_size=8, patch_size=4).save_pretrained(tmp_path / "vit")
    images = {"tasks": {"a": {"kind": "image_classification", "data": "a"}}}
    check_before(made(16), str(tmp_path / "bert"))
    check_before(made(16, **images), str(tmp_path / "vit"))
    with pytest.raises(
        gw.RecipeError, match=r"tasks\.a: image_classification is of images, .* \(bert\) reads texts; give another"
    ):
        check_before(made(16, **images), str(tmp_path / "bert"))
    with pytest.raises(gw.RecipeError, match=r"tasks\.a: classification is of texts, .* \(vit\) reads images"):
        check_before(made(16), str(tmp_path / "vit"))
    check_before(made(4000), str(tmp_path / "nothing"))  # said where it is loaded


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny")).parent


@pytest.mark.parametrize(
    "begin",
    [lambda recipe, root: run(recipe, root / "out", root=root), lambda recipe, root: estimate(recipe, root=root)],
)
def test_it_is_said_before_a_step(
    begin: Callable[[Recipe, Path], Any], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*args: Any, **options: Any) -> None:
        raise AssertionError("a step of the optimiser")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(gw.RecipeError, match=r"base\.max_length is 600, .* has positions for 512 tokens"):
        begin(Recipe.make({"base": {"model": "base", "max_length": 600}, "tasks": {"a": {"data": "not-there"}}}), tiny)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(gw.TaskError, match=r"the metric macro_f1 needs sklearn .*pip install 'graftwork\[tasks\]'"):
        begin(Recipe.make({"base": {"model": "base", "max_length": 16}, "tasks": {"a": {"data": "a"}}}), tiny)


def test_a_library_of_the_recipe_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(gw.RecipeError, match=r"training\.tensorboard needs TensorBoard: pip install"):
        check_before(made(16, training={"tensorboard": True}), str(tmp_path))
