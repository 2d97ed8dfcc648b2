"""Tiny models of types whose configurations the general shrinker cannot make, and inputs that they run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import nn

from tests.zoo.registry import Unavailable

Made = tuple[nn.Module, dict[str, Any]]
IMAGE = torch.linspace(-1, 1, 3 * 64 * 64).sin().reshape(1, 3, 64, 64)
TOKENS = torch.arange(14).reshape(2, 7) + 3


def made_by_hand(model_type: str) -> Made:
    """A model in eval mode, and inputs for one forward pass.

    Raises:
        Unavailable: If the installed transformers has no such model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model, inputs = MADE[model_type]()
        except (AttributeError, ImportError) as error:
            raise Unavailable(str(error)) from error
    return model.eval(), inputs


def autoformer() -> Made:
    """Wu et al. 2021: auto-correlation in place of attention, and series without their moving average."""
    config = hf.AutoformerConfig(
        prediction_length=8,
        context_length=16,
        label_length=8,
        lags_sequence=[1, 2, 3],
        num_time_features=1,
        moving_average=5,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    )
    time = torch.linspace(0, 1, 27)[None, :, None].repeat(2, 1, 1)
    inputs = {
        "past_values": time[:, :19, 0].sin(),
        "past_time_features": time[:, :19],
        "past_observed_mask": torch.ones(2, 19),
        "future_values": time[:, 19:, 0].sin(),
        "future_time_features": time[:, 19:],
    }
    return hf.AutoformerModel(config), inputs


def d_fine() -> Made:
    """Peng et al. 2024: in its decoder a gate mixes cross-attention with the stream."""
    backbone = hf.HGNetV2Config(
        stem_channels=[3, 4, 8],
        stage_in_channels=[8, 16, 16, 16],
        stage_mid_channels=[4, 8, 8, 8],
        stage_out_channels=[16, 16, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[2, 2, 2, 2],
        embedding_size=8,
        hidden_sizes=[16, 16, 16, 16],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    config = hf.DFineConfig(
        backbone_config=backbone,
        encoder_in_channels=[16, 16, 16],
        encoder_hidden_dim=32,
        encoder_ffn_dim=64,
        encoder_attention_heads=2,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_n_points=[2, 2, 2],
        num_queries=10,
        num_denoising=0,
        max_num_bins=8,
    )
    return hf.DFineModel(config), {"pixel_values": IMAGE}


def dbrx() -> Made:
    """Norms and attention in one module, experts in another."""
    config = hf.DbrxConfig(
        d_model=32,
        n_heads=4,
        n_layers=2,
        max_seq_len=64,
        vocab_size=100,
        attn_config={"kv_n_heads": 2, "clip_qkv": 8.0},
        ffn_config={"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    )
    if not hasattr(config.attn_config, "rope_theta"):
        config.attn_config.rope_theta = 10000.0  # the model reads it there
    return hf.DbrxModel(config), {"input_ids": TOKENS}


def detr() -> Made:
    """Carion et al. 2020, on a ResNet."""
    backbone = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    config = hf.DetrConfig(
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=backbone,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=5,
    )
    return hf.DetrModel(config), {"pixel_values": IMAGE.repeat(2, 1, 1, 1)}


def evolla() -> Made:
    """A protein encoder, a resampler of learned latents, and a decoder with cross-attention in every other layer."""
    protein = {
        "vocab_size": 33,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
    }
    config = hf.EvollaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        protein_encoder_config=protein,
        resampler_depth=2,
        resampler_dim_head=8,
        resampler_heads=4,
        resampler_num_latents=4,
        resampler_ff_mult=2,
        aligner_ffn_mult=2,
        aligner_num_add_layers=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    inputs = {
        "input_ids": TOKENS,
        "attention_mask": torch.ones_like(TOKENS),
        "protein_input_ids": TOKENS + 1,
        "protein_attention_mask": torch.ones_like(TOKENS),
    }
    return hf.EvollaModel(config), inputs


def sam() -> Made:
    """Kirillov et al. 2023."""
    vision = hf.SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        mlp_dim=64,
        output_channels=16,
        window_size=2,
        global_attn_indexes=[1],
        num_pos_feats=8,
    )
    prompts = hf.SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4)
    masks = hf.SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16, num_hidden_layers=2
    )
    config = hf.SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=masks.to_dict(),
    )
    return hf.SamModel(config), {"pixel_values": IMAGE, "input_points": torch.tensor([[[[10.0, 12.0]]]])}


MADE: dict[str, Callable[[], Made]] = {make.__name__: make for make in (autoformer, d_fine, dbrx, detr, evolla, sam)}
