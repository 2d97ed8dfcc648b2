"""What holds for every kind: it learns, reads perfect outputs as what is right, and padding changes nothing."""

from __future__ import annotations

import json
import pickle
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec, kinds
from tests.support.tiny_tasks import ROWS, Tiny, perfect, tiny

KINDS = sorted(ROWS)


@cache
def shared(kind: str) -> Tiny:
    """One of a kind that no test changes."""
    return tiny(kind)


def test_there_is_a_case_of_every_kind() -> None:
    assert sorted(kinds) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_its_head_goes_down(kind: str) -> None:
    case = tiny(kind)
    head = case.head()
    case.base.train()
    optimizer = torch.optim.Adam([*case.base.parameters(), *head.parameters()], lr=5e-3)
    features = case.features(train=True)
    losses = []
    for _ in range(25):
        torch.manual_seed(3)  # the same masks in each step
        batch = case.batch(features)
        loss = head.loss(case.logits(head, batch), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_perfect_outputs_are_read_as_what_is_right(kind: str) -> None:
    case = shared(kind)
    features = case.features()
    predictions = case.task.decode(
        [perfect(case.task, feature) for feature in features], features, case.task.train, case.processor
    )
    assert len(predictions) == len(case.task.train)
    scores = case.task.score(predictions, case.task.train)
    assert tuple(scores) == case.task.metrics
    assert scores[case.task.metric] == pytest.approx(1.0)
    assert json.loads(json.dumps([one.to_dict() for one in predictions]))[0].keys() >= {"value"}


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"text_to_text", "generation", "image_classification"}))
@settings(max_examples=10)
@given(data=st.data())
def test_padding_never_changes_what_is_read(kind: str, data: st.DataObject) -> None:
    """Alone or in any batch, with any padding behind its output, a row is predicted the same."""
    case = shared(kind)
    case.base.eval()
    torch.manual_seed(0)
    head = case.head().eval()
    features = case.features()
    order = data.draw(st.permutations(range(len(features))))
    size = data.draw(st.integers(1, len(features)))
    together = {}
    with torch.no_grad():
        for begin in range(0, len(order), size):
            part = order[begin : begin + size]
            for n, row in zip(part, case.logits(head, case.batch([features[n] for n in part])), strict=True):
                together[n] = row
        alone = [case.logits(head, case.batch([feature]))[0] for feature in features]
    several = [together[n].numpy() for n in range(len(features))]
    read = [case.task.decode(outs, features, case.task.train, case.processor) for outs in (several, alone)]
    for one, other in zip(*read, strict=True):
        assert one.value == other.value or one.value == pytest.approx(other.value, abs=1e-4)
        assert (one.probabilities or {}) == pytest.approx(other.probabilities or {}, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_plain_and_a_batch_is_tensors(kind: str) -> None:
    case = shared(kind)
    features = case.features()
    batch = case.batch(features)
    assert all(isinstance(value, torch.Tensor) for value in batch.values())
    assert set(batch) <= {"input_ids", "attention_mask", "token_type_ids", "pixel_values", "labels"}
    assert len(case.task.lengths(features)) == len(features)
    if kind != "image_classification":
        assert json.loads(json.dumps(features)) == features
    assert pickle.loads(pickle.dumps(case.task)).labels == case.task.labels


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"masked_lm", "causal_lm"}))
def test_test_rows_may_be_without_answers_and_train_rows_not(kind: str) -> None:
    case = shared(kind)
    spec, answer = case.task.spec, case.task.kind.columns(case.task.spec, train=True)[-1]
    bare = [{key: value for key, value in row.items() if key != answer} for row in ROWS[kind]]
    task = Task.from_rows("bare", spec, train=ROWS[kind], dev=ROWS[kind], test=bare)
    assert task.test is not None
    features = task.features(task.test, case.processor)
    assert "labels" not in task.collate(features, case.processor, for_model=case.base)
    with pytest.raises(TaskError, match=f"bare, test row:1: no column '{answer}'; the row has .*name the column"):
        task.score([None] * len(bare), task.test)  # type: ignore[list-item]
    with pytest.raises(TaskError, match="bare, dev row:1: no column"):
        Task.from_rows("bare", spec, train=ROWS[kind], dev=bare)
    with pytest.raises(TaskError, match="no column"):
        task.features(task.test, case.processor, train=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_missing_is_named_with_those_that_there_are(kind: str) -> None:
    (column, *_) = kinds[kind].columns(TaskSpec(), train=False)
    rows = [{("other" if key == column else key): value for key, value in row.items()} for row in ROWS[kind]]
    with pytest.raises(TaskError, match=rf"missing, train row:1: no column '{column}'; the row has .*'other'"):
        Task.from_rows("missing", TaskSpec(kind=kind), train=rows, dev=rows)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"question_answering"}))
def test_outputs_that_are_not_one_for_each_row_are_refused(kind: str) -> None:
    case = shared(kind)
    features = case.features()
    with pytest.raises(TaskError, match="outputs for"):
        case.task.decode([np.zeros(2)], features, case.task.train, case.processor)


def test_padding_is_on_the_right_whatever_the_tokenizer_prefers() -> None:
    case = tiny("tagging")
    case.processor.padding_side = "left"
    batch = case.batch(case.features())
    assert batch["attention_mask"][:, 0].all()
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_what_a_model_does_not_take_is_left_out() -> None:
    case = tiny("classification")

    class Plain(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None: ...

    batch = case.task.collate(case.features(), case.processor, for_model=Plain())
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
