"""Heads for a base model without one: a configuration, a module and a loss for each kind of task.

What a model with heads gives is a `graftwork.heads.output.HeadOutput`.
"""

from graftwork.heads.choice import MultipleChoice
from graftwork.heads.classification import Classification, Regression
from graftwork.heads.contract import Backbone, Head, HeadConfig
from graftwork.heads.language import CausalLM, MaskedLM, Seq2SeqLM
from graftwork.heads.registry import head_from_dict, heads
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
