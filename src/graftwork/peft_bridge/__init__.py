"""Adapters that another library computes: peft's modules, by the names that users give them."""

from graftwork.peft_bridge.peft_adapters import PeftAdapters
from graftwork.peft_bridge.weights import together

__all__ = ["PeftAdapters", "together"]
