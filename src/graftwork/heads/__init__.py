"""Heads for a base model without one: a configuration, a module and a loss for each kind of task.

A model with heads returns a `graftwork.heads.output.HeadOutput`.
"""

from graftwork.heads.classification import Classification, MultipleChoice, Regression
from graftwork.heads.contract import Backbone, Head, HeadConfig, head_from_dict, heads
from graftwork.heads.language import CausalLM, MaskedLM, Seq2SeqLM
from graftwork.heads.tokens import QuestionAnswering, TokenClassification

__all__ = [
    "Backbone",
    "CausalLM",
    "Classification",
    "Head",
    "HeadConfig",
    "MaskedLM",
    "MultipleChoice",
    "QuestionAnswering",
    "Regression",
    "Seq2SeqLM",
    "TokenClassification",
    "head_from_dict",
    "heads",
]
