"""What a trained fusion looks at: the mean over the dev rows by site, and the tokens of a few of them."""

from __future__ import annotations

from typing import Any

import torch

from graftwork.api import Adapters
from graftwork.attach import mean_attention
from graftwork.compose import names_in
from graftwork.experiments.kinds import Unit, fusion_name
from graftwork.experiments.running.records import MOST_EXAMPLES, MOST_TOKENS
from graftwork.training.encoding import batch_of
from graftwork.training.outputs import evaluating
from graftwork.training.task_trainer import TaskTrainer

_MOST_SEEN = 512  # features for the mean


def attention(unit: Unit, trainer: TaskTrainer, adapters: Adapters, processor: Any) -> dict[str, Any]:
    """The attention of a unit's fusion, as `graftwork.experiments.running.records.Attention`.

    Args:
        unit: The unit, trained; its fusion is active.
        trainer: Its Trainer.
        adapters: The handle of its model.
        processor: What made the features.

    Returns:
        ``adapters``; for each of ``sites`` the mean weight of each adapter over unpadded positions of dev rows, 1 in all; and
        ``examples``: the tokens of a few dev rows, each with a weight for each adapter, the mean over the sites. There are
        none where the rows have no tokens.
    """
    model: Any = adapters.model
    fusion, kind, size = fusion_name(unit), trainer.task.kind, trainer.args.eval_batch_size
    features = trainer.features(trainer.task.dev)
    starts = range(0, min(len(features), _MOST_SEEN), size)
    batches = (batch_of(model, kind, features[start : start + size], processor) for start in starts)
    with evaluating(model), trainer.autocast():
        mean = mean_attention(adapters, fusion, batches)
        examples = []
        for feature in features[:MOST_EXAMPLES]:
            ids = feature.get("input_ids")
            if not ids or not isinstance(ids[0], int):  # an image, or several choices
                continue
            weights = adapters.fusion_weights(**batch_of(model, kind, [feature], processor)).get(fusion, {})
            # without the sites of a decoder that reads other tokens
            over = [one[0].double().cpu() for one in weights.values() if one.ndim == 3 and one.shape[1] == len(ids)]
            if over:
                ids, by_token = ids[:MOST_TOKENS], torch.stack(over).mean(0)[:MOST_TOKENS].tolist()
                examples.append({"tokens": [processor.decode([one]) for one in ids], "weights": _rounded(by_token, 3)})
    sites = dict(zip(mean, _rounded([one.tolist() for one in mean.values()], 6), strict=True))
    return {"adapters": list(names_in(adapters.fusions[fusion])), "sites": sites, "examples": examples}


def _rounded(rows: list[list[float]], digits: int) -> list[list[float]]:
    return [[round(value, digits) for value in row] for row in rows]
