"""Predict with what `quickstart.py` saved: the base model, the adapters and the fusion, each from its own files.

    python examples/predict.py out/quickstart "Meeting room red is booked." "The red room is free."

Prints the probability of each label as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

import graftwork as gw


def main() -> None:
    """Read the command line, load, predict, print."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out, *texts = sys.argv[1:]
    note = json.loads(Path(out, "quickstart.json").read_text(encoding="utf-8"))
    model = gw.ModelWithHeads(AutoModel.from_pretrained(note["base"], dtype=note["dtype"])).eval()
    tokenizer = AutoTokenizer.from_pretrained(note["base"])

    adapters = gw.attach(model)
    for name in note["adapters"]:
        adapters.load(Path(out, name))
    adapters.active = adapters.load(Path(out, note["fusion"]))

    batch = tokenizer(*([text] for text in texts), truncation=True, max_length=note["max_length"], return_tensors="pt")
    with torch.no_grad():
        (probabilities,) = model(**batch).logits.softmax(-1).tolist()
    print(json.dumps(dict(zip(adapters.labels(note["fusion"]).names, probabilities, strict=True))))


if __name__ == "__main__":
    main()
