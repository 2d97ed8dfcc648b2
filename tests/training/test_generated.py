"""What a decoder writes in batches that are padded on the left, and what is drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graftwork import attach
from graftwork.tasks import Task, TaskSpec
from graftwork.training.encoding import Encoded
from graftwork.training.outputs import autocast_as, generated, predictions_of
from tests.support.tiny_chat import byte_tokenizer, gpt2, llama, talker

ROWS = [{"prompt": word * n, "target": "yes"} for n, word in ((1, "a"), (9, "good "), (3, "film, "), (30, "b "))]


def ready(config: Any, **spec: Any) -> tuple[Any, Task]:
    model = talker(config)
    adapters = attach(model)
    task = Task.from_rows("t", TaskSpec(kind="generation", max_new_tokens=6, **spec), ROWS, ROWS)
    adapters.add("t", "lora")
    adapters.add_head("t", task.head())
    adapters.active = "t"
    with torch.no_grad():
        for weight in adapters.trainable_parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model, task


@pytest.mark.parametrize("config", [llama, gpt2])
@pytest.mark.parametrize("beams", [1, 2])
def test_in_a_batch_as_one_by_one(config: Any, beams: int) -> None:
    model, task = ready(config(), num_beams=beams)
    encoded, plain = Encoded(task, byte_tokenizer(), 200), autocast_as(model)
    together, loss = predictions_of(model, encoded, task.dev, 4, plain)
    alone, same = predictions_of(model, encoded, task.dev, 1, plain)
    assert [one.value for one in together] == [one.value for one in alone]
    assert len({one.value for one in together}) > 1
    assert loss is not None and loss > 0 and same is not None
    tokenizer = byte_tokenizer()
    chat = [{"role": "user", "content": ROWS[1]["prompt"]}]
    ids = tokenizer(
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True), return_tensors="pt"
    )
    by_hand = model.base.generate(
        input_ids=ids["input_ids"],
        attention_mask=ids["attention_mask"],
        max_new_tokens=6,
        do_sample=False,
        num_beams=beams,
    )[0, ids["input_ids"].shape[1] :]
    assert together[1].value == tokenizer.decode(by_hand, skip_special_tokens=True).strip()


def test_what_is_drawn_depends_on_the_tasks_seed_alone() -> None:
    def drawn(seed: int) -> list[list[int]]:
        model, task = ready(llama(), temperature=2.0, sampling_seed=seed)
        features = task.features(task.dev, byte_tokenizer())
        torch.manual_seed(99)
        before = torch.random.get_rng_state()
        found = generated(model, task.kind, features, byte_tokenizer()).tolist()
        assert torch.equal(before, torch.random.get_rng_state())
        return found

    assert drawn(0) == drawn(0) != drawn(1)


def test_a_base_that_draws_by_itself_is_greedy_here() -> None:
    model, task = ready(llama())
    encoded, plain = Encoded(task, byte_tokenizer(), 200), autocast_as(model)
    greedy, _ = predictions_of(model, encoded, task.dev, 4, plain)
    model.base.generation_config.update(do_sample=True, temperature=3.0, top_p=0.9)
    assert predictions_of(model, encoded, task.dev, 4, plain)[0] == greedy
