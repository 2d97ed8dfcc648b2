"""Language modelling: masks as BERT draws them, the next word, and outputs made small."""

from __future__ import annotations

import pytest
import torch

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from tests.support.tiny_tasks import perfect, tiny

LONG = [{"text": "the cat sat on the mat and the dog ran fast under the big red house " * 3}] * 200


def test_masks_of_dev_rows_are_the_same_in_every_run() -> None:
    case = tiny("masked_lm")
    assert case.features() == case.features()
    alone = case.task.features(case.task.train[1:2], case.processor)
    assert alone == case.features()[1:2]
    assert all(feature["input_ids"][0] == 2 for feature in case.features()), "frames are never masked"


def test_masks_of_training_are_drawn_anew_by_the_seed() -> None:
    case = tiny("masked_lm")
    features = case.features(train=True)
    assert "labels" not in features[0]
    torch.manual_seed(1)
    first, second = case.batch(features), case.batch(features)
    torch.manual_seed(1)
    again = case.batch(features)
    assert not torch.equal(first["labels"], second["labels"])
    assert torch.equal(first["labels"], again["labels"]) and torch.equal(first["input_ids"], again["input_ids"])


def test_masks_are_as_many_as_berts() -> None:
    case = tiny("masked_lm")
    task = Task.from_rows("long", TaskSpec(kind="masked_lm"), LONG, LONG)
    features = task.features(task.train, case.processor, train=True)
    batch = task.collate(features, case.processor)
    asked = batch["labels"] != -100
    words = sum(len(feature["input_ids"]) - 2 for feature in features)
    assert asked.sum() / words == pytest.approx(0.15, abs=0.01)
    plain = torch.tensor([feature["input_ids"] for feature in features])
    masked = batch["input_ids"] == case.processor.mask_token_id
    assert torch.equal(batch["input_ids"][~asked], plain[~asked])
    assert torch.equal(batch["labels"][asked], plain[asked])
    assert masked[asked].float().mean() == pytest.approx(0.8, abs=0.03)
    assert (batch["input_ids"] == plain)[asked].float().mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("kind", ["masked_lm", "causal_lm"])
def test_a_long_text_is_learnt_in_pieces_and_scored_by_its_beginning(kind: str) -> None:
    case = tiny(kind)
    task = Task.from_rows("long", TaskSpec(kind=kind), LONG[:1], LONG[:1])
    whole = case.processor(LONG[0]["text"], add_special_tokens=False)["input_ids"]
    pieces = task.features(task.train, case.processor, max_length=12, train=True)
    assert len(pieces) == -(-len(whole) // 10) > 3
    assert [token for piece in pieces for token in piece["input_ids"][1:-1]] == whole
    (scored,) = task.features(task.train, case.processor, max_length=12)
    assert len(scored["input_ids"]) == 12


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    case = tiny("masked_lm")
    case.processor.mask_token = None
    with pytest.raises(TaskError, match=r"task 'tiny masked_lm': masked_lm needs a mask, and .*kind = 'causal_lm'"):
        case.features()


def test_masks_are_filled_in() -> None:
    case = tiny("masked_lm")
    features = case.features()
    outputs = [perfect(case.task, feature) for feature in features]
    said = case.task.decode(outputs, features, case.task.train, case.processor)
    assert said[2].value == "Anna"
    assert all(one.extra["tokens"][0][1] == pytest.approx(0, abs=1e-2) for one in said)


@pytest.mark.parametrize("kind", ["masked_lm", "causal_lm"])
def test_outputs_made_small_are_read_the_same(kind: str) -> None:
    case = tiny(kind)
    case.base.eval()
    head = case.head().eval()
    features = case.features()
    with torch.no_grad():
        batch = case.batch(features)
        logits = case.logits(head, batch)
    small = case.task.kind.reduce(logits, batch["labels"])
    assert small.shape == (*logits.shape[:2], 2)
    whole, reduced = (case.task.decode(list(out), features, case.task.train, case.processor) for out in (logits, small))
    assert [one.value for one in whole] == [one.value for one in reduced]
    scores = [case.task.score(said, case.task.train) for said in (whole, reduced)]
    assert scores[0] == pytest.approx(scores[1])
    # the metric is the head's own loss, its sign turned
    assert scores[0]["log_likelihood"] == pytest.approx(-head.loss(logits, batch["labels"]).item(), rel=1e-4)


def test_the_next_word_is_the_one_behind_the_text() -> None:
    case = tiny("causal_lm")
    features = case.features()
    outputs = [perfect(case.task, feature) for feature in features]
    outputs[1][-1] = 0
    outputs[1][-1, case.processor.convert_tokens_to_ids("fast")] = 1
    said = case.task.decode(outputs, features, case.task.train, case.processor)
    assert said[1].value == "fast"
