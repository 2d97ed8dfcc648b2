"""Encoder-decoder models of the zoo, for text and speech."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import nn

from tests.zoo.inputs import decoder_ids, text
from tests.zoo.registry import AF, AXF, PAD, VOCAB, WIDTH, Expected, register

Built = tuple[nn.Module, dict[str, Any], Expected]


def _t5_config() -> Any:
    return hf.T5Config(
        vocab_size=VOCAB,
        d_model=WIDTH,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        pad_token_id=PAD,
        eos_token_id=3,
        decoder_start_token_id=PAD,
    )


def _bart_config() -> Any:
    return hf.BartConfig(
        vocab_size=VOCAB,
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=40,
        pad_token_id=PAD,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=3,
        forced_eos_token_id=None,
    )


def _pair(generator: torch.Generator) -> dict[str, Any]:
    return {**text(generator), "decoder_input_ids": decoder_ids(generator)}


@register("t5")
def t5(generator: torch.Generator) -> Built:
    """Raffel et al. 2020: pre-norm with RMSNorm, relative position bias, every branch a module of its own list."""
    expected = Expected({"encoder.block": (2, AF), "decoder.block": (2, AXF)}, "pre")
    return hf.T5Model(_t5_config()), _pair(generator), expected


@register("t5_generation")
def t5_generation(generator: torch.Generator) -> Built:
    """T5 with its tied language-model head."""
    expected = Expected({"encoder.block": (2, AF), "decoder.block": (2, AXF)}, "pre", generates=True, tied_output=True)
    return hf.T5ForConditionalGeneration(_t5_config()), _pair(generator), expected


@register("bart")
def bart(generator: torch.Generator) -> Built:
    """Lewis et al. 2020: post-norm encoder and decoder."""
    expected = Expected({"encoder.layers": (2, AF), "decoder.layers": (2, AXF)}, "post")
    return hf.BartModel(_bart_config()), _pair(generator), expected


@register("bart_generation")
def bart_generation(generator: torch.Generator) -> Built:
    """BART with its tied language-model head."""
    expected = Expected(
        {"model.encoder.layers": (2, AF), "model.decoder.layers": (2, AXF)}, "post", generates=True, tied_output=True
    )
    return hf.BartForConditionalGeneration(_bart_config()), _pair(generator), expected


@register("whisper")
def whisper(generator: torch.Generator) -> Built:
    """Radford et al. 2023: two convolutions over mel features, pre-norm encoder and decoder."""
    config = hf.WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=8,
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=10,
        max_target_positions=20,
        pad_token_id=PAD,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=2,
    )
    inputs = {
        "input_features": torch.randn(3, 8, 20, generator=generator),
        "decoder_input_ids": decoder_ids(generator),
    }
    expected = Expected({"encoder.layers": (2, AF), "decoder.layers": (2, AXF)}, "pre")
    return hf.WhisperModel(config), inputs, expected
