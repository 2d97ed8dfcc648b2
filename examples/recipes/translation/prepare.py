"""Trains the base of this recipe, a small T5, from scratch on village talk, and writes the rows of the two domains.

    python examples/recipes/translation/prepare.py

It ends by saying how well the base alone translates: village talk, and what the adapters are for.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from languages import rows
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration
from transformers.utils import logging

OUT = Path(__file__).parent / "out"
BATCH = 64


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Pieces of words, so that words that were never seen are spelled and not lost."""
    special = ["<pad>", "</s>", "<unk>"]
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    letters = list("abcdefghijklmnopqrstuvwxyz")
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=220, special_tokens=special, initial_alphabet=letters, show_progress=False),
    )
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_input_names=inputs, **names)


def make_model(words: int) -> T5ForConditionalGeneration:
    """Two layers on each side, 64 wide."""
    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    special = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=words, dropout_rate=0.0, **sizes, **special))


def train(
    model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, pairs: list[dict], epochs: int
) -> None:
    """Plain training of every weight."""
    steps = epochs * -(-len(pairs) // BATCH)
    learner = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(learner, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    draw, pairs = random.Random(0), list(pairs)
    model.train()
    for epoch in range(1, epochs + 1):
        draw.shuffle(pairs)
        total = 0.0
        for start in range(0, len(pairs), BATCH):
            loss = model(**batch(pairs[start : start + BATCH], tokenizer)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            learner.step()
            rate.step()
            learner.zero_grad()
            total += float(loss.detach()) * len(pairs[start : start + BATCH])
        print(f"epoch {epoch:2d} of {epochs}: loss {total / len(pairs):.3f}", flush=True)
    model.eval()


def batch(pairs: list[dict], tokenizer: PreTrainedTokenizerFast) -> dict[str, torch.Tensor]:
    """Padded tokens; the loss passes over the padding of the labels."""
    inputs = tokenizer([pair["text"] for pair in pairs], padding=True, return_tensors="pt")
    targets = tokenizer([pair["target"] for pair in pairs], padding=True, return_tensors="pt")
    return {**inputs, "labels": targets["input_ids"].masked_fill(targets["attention_mask"] == 0, -100)}


@torch.no_grad()
def scores(model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, pairs: list[dict]) -> str:
    """BLEU and chrF of greedy translations."""
    from sacrebleu import corpus_bleu, corpus_chrf

    inputs = tokenizer([pair["text"] for pair in pairs], padding=True, return_tensors="pt")
    written = tokenizer.batch_decode(model.generate(**inputs, max_new_tokens=40), skip_special_tokens=True)
    right = [[pair["target"] for pair in pairs]]
    return f"BLEU {corpus_bleu(written, right).score:5.1f}, chrF {corpus_chrf(written, right).score:5.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few steps, to see that everything runs")
    small = parser.parse_args().small
    logging.disable_progress_bar()
    torch.manual_seed(0)
    village = rows("village", 200 if small else 4000, "train")
    tokenizer = make_tokenizer([text for pair in village for text in pair.values()])
    model = make_model(len(tokenizer))
    train(model, tokenizer, village, 1 if small else 8)
    model.save_pretrained(OUT / "base")
    tokenizer.save_pretrained(OUT / "base")
    print("the base alone:")
    known = {pair["text"] for pair in village}
    unseen = [pair for pair in rows("village", 200, "dev") if pair["text"] not in known]
    print(f"  {'village':8s} {scores(model, tokenizer, unseen[: 20 if small else 100])}")
    for variety in ("harbour", "hills"):
        found = rows(variety, 1100, "train and dev")
        dev, learnt = found[:100], found[100:]
        (OUT / variety).mkdir(parents=True, exist_ok=True)
        for split, part in (("train", learnt), ("dev", dev[:20] if small else dev)):
            (OUT / variety / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        print(f"  {variety:8s} {scores(model, tokenizer, dev[:20] if small else dev)}")


if __name__ == "__main__":
    main()
