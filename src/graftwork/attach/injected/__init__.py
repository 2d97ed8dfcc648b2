"""Adapters that another library computes: peft's modules under names of ours."""

from graftwork.attach.injected.table import Table
from graftwork.attach.injected.weights import together

__all__ = ["Table", "together"]
