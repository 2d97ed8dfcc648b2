"""Small transformers, and ways to have their linear layers computed by operations that discovery has never heard of."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
import transformers
from torch import Tensor, nn

_SMALL = {"vocab_size": 50, "pad_token_id": 0}


def bert() -> nn.Module:
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, **_SMALL
    )
    return transformers.BertModel(config).eval()


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=128,
        **_SMALL,
    )
    return transformers.LlamaForCausalLM(config).eval()


def t5() -> nn.Module:
    config = transformers.T5Config(d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2, **_SMALL)
    return transformers.T5Model(config).eval()


MODELS: dict[str, Callable[[], nn.Module]] = {"bert": bert, "llama": llama, "t5": t5}


@torch.library.custom_op("graftwork_tests::packed_product", mutates_args=())
def _packed_product(x: Tensor, handle: int) -> Tensor:
    return nn.functional.linear(x, PackedLinear.packed[handle])


@_packed_product.register_fake
def _(x: Tensor, handle: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], PackedLinear.packed[handle].shape[0])


class PackedLinear(nn.Module):
    """A linear layer by an operator of an extension, whose weights are nowhere that PyTorch would see them."""

    packed: ClassVar[list[Tensor]] = []
    weight = None  # T5 asks for its type

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed.append(linear.weight.detach().clone())
        self.handle, self.bias = len(self.packed) - 1, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.graftwork_tests.packed_product(x, self.handle)
        return y if self.bias is None else y + self.bias


class RoundedLinear(nn.Module):
    """A linear layer that rounds what it takes to integers of a fixed step: no float leads through it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", (linear.weight.detach() * 127).round().clamp(-128, 127).to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        rounded = (x * 16).round().clamp(-128, 127).to(torch.int8).flatten(0, -2)
        product = torch._int_mm(torch.nn.functional.pad(rounded, (0, 0, 0, 32)), self.weight.T)
        return product[: rounded.shape[0]].to(x.dtype).reshape(*x.shape[:-1], -1) / (16 * 127)


def replace_linears(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Puts another module in the place of every linear layer but the projection to the vocabulary."""
    for name, child in list(model.named_children()):
        if isinstance(child, nn.Linear):
            if name != "lm_head":
                setattr(model, name, make(child))
        else:
            replace_linears(child, make)
    return model


def packed(model: nn.Module) -> nn.Module:
    return replace_linears(model, PackedLinear)


def rounded(model: nn.Module) -> nn.Module:
    return replace_linears(model, RoundedLinear)


def torch_dynamic(model: nn.Module) -> nn.Module:
    quantized: nn.Module = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    return quantized


def torchao_int8(model: nn.Module) -> nn.Module:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model


def torchao_dynamic(model: nn.Module) -> nn.Module:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(model, quantization.Int8DynamicActivationInt8WeightConfig())
    return model


def bitsandbytes_4bit(model: nn.Module) -> nn.Module:
    bnb = pytest.importorskip("bitsandbytes")

    def make(linear: nn.Linear) -> nn.Module:
        new = bnb.nn.Linear4bit(
            linear.in_features, linear.out_features, linear.bias is not None, torch.float32, quant_type="nf4"
        )
        new.load_state_dict(linear.state_dict())
        return new.to("cpu")

    return replace_linears(model, make)


def bitsandbytes_8bit(model: nn.Module) -> nn.Module:
    bnb = pytest.importorskip("bitsandbytes")

    def make(linear: nn.Linear) -> nn.Module:
        new = bnb.nn.Linear8bitLt(
            linear.in_features, linear.out_features, linear.bias is not None, has_fp16_weights=False
        )
        new.load_state_dict(linear.state_dict())
        return new.to("cpu")

    return replace_linears(model, make)


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    way.__name__: way
    for way in (packed, rounded, torch_dynamic, torchao_int8, torchao_dynamic, bitsandbytes_4bit, bitsandbytes_8bit)
}
