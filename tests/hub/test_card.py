"""The card of a repository: facts alone, safe as YAML and as Markdown, code that runs, and a person's text that stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import graftwork as gw
from graftwork.hub.card import card, is_unchanged, plain
from graftwork.hub.facts import Contents, PartFacts, Score, TrainingFacts
from tests.hub.test_round_trip import computed, fresh
from tests.support.hub_server import Hub

EVIL = "x\n---\n# <script>alert(1)</script> [a](http://b.c) ![i](j) | `c` *d* www.e.f {{ 7*7 }} \u202e"
TRAINING = TrainingFacts(
    "rte",
    "text-classification",
    "glue/rte",
    0,
    (Score("accuracy", "dev", 0.71234, 0.0123, (0, 1, 2)),),
    {"epochs": 3, "learning_rate": 1e-4},
    {"graftwork": "0.1.0"},
)


def metadata(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def made(training: TrainingFacts | None = TRAINING, name: str = "rte", label: str = "yes", **more: Any) -> str:
    part = PartFacts(name, "adapter", "Houlsby", 1234, 0.0123, (label, "no"), {"reduction_factor": 16, "note": label})
    contents = Contents("org/base", "bert", "transformers.BertModel.from_pretrained('org/base')", (part,), ())
    return card("org/rte", name, contents, training, versions={"graftwork": "0.1.0"}, **more)


def test_its_metadata_is_what_the_hub_reads() -> None:
    data = metadata(made(license="apache-2.0", tags=["nli"], form="peft"))
    assert {key: data[key] for key in ("base_model", "library_name", "license", "pipeline_tag")} == {
        "base_model": "org/base",
        "library_name": "graftwork",
        "license": "apache-2.0",
        "pipeline_tag": "text-classification",
    }
    assert data["tags"] == ["graftwork", "adapter", "peft", "nli"]
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"]["name"] == "glue/rte" and result["metrics"][0]["value"] == 0.71234


def test_its_text_says_the_facts() -> None:
    text = made()
    for said in (
        "[`org/base`](https://huggingface.co/org/base)",
        "| rte | Houlsby | 1,234 | 1.230% | yes, no |",
        "| accuracy | dev | 0.7123 | 0.012 | 0, 1, 2 |",
        "| data | glue/rte |",
        "| seed of these weights | 0 |",
        "| learning\\_rate | 0.0001 |",
        "Made with graftwork 0.1.0.",
        "adapters.activate(adapters.load('org/rte'))",
    ):
        assert said in text, said
    assert "model-index" not in made(None) and "## Training" not in made(None) and "license" not in made()


def test_texts_of_others_are_only_text() -> None:
    """Names, labels, data and options from files: nothing of them is markup, a key, or a line of its own."""
    training = TrainingFacts(EVIL, "text-classification", EVIL, 0, (Score(EVIL, EVIL, 0.5, None, (0,)),), {EVIL: EVIL})
    text = made(training, label=EVIL, name=EVIL)
    data = metadata(text)
    assert set(data) == {"base_model", "library_name", "model-index", "pipeline_tag", "tags"}
    (dataset,) = (one["dataset"] for one in data["model-index"][0]["results"])
    assert dataset["name"].split() == EVIL.replace("\u202e", "").split()
    body = text.split("---\n", 2)[2]
    outside = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<script|(?<!\\)\]\(http://b|\n# \\?<|\u202e", outside)
    assert r"\<script\>alert\(1\)\</script\>" in outside and r"http\://b" in outside
    assert "49" not in outside, "nothing of it is a template"
    assert all(line.count("|") - line.count("\\|") == 6 for line in outside.splitlines() if "| Houlsby" in line)
    fences = [line for line in body.splitlines() if line.startswith("```")]
    assert fences == ["```python", "```", "```json", "```"]


@pytest.mark.parametrize("text", ["", "a_b", "**x**", "[a](b)", "<b>", "a|b", "line\nline", "`c`", "www.a.b"])
def test_plain_text_keeps_its_characters(text: str) -> None:
    assert re.sub(r"\\(.)", r"\1", plain(text)) == " ".join(text.split())


def test_a_changed_card_is_known() -> None:
    text = made()
    assert is_unchanged(text) and is_unchanged(text.replace("\n", "\r\n"))
    for other in (text.replace("rte", "RTE"), text + "More.\n", "", "# Mine\n", text[: text.rindex("<!--")]):
        assert not is_unchanged(other)


def edit(hub: Hub, name: str, text: bytes) -> None:
    repository = hub.repositories[name]
    files = repository.commits[repository.refs["main"]]
    old = files["README.md"]
    repository.commit({**files, "README.md": type(old)(text, False, len(text))})


def test_a_card_that_a_person_wrote_stays_until_it_is_asked_for(hub: Hub) -> None:
    _, adapters = fresh(a=gw.Pfeiffer())
    adapters.push("a", "org/a")
    adapters.push("a", "org/a", license="mit")
    assert b"license: mit" in hub.files("org/a")["README.md"], "its own card of before is replaced"
    mine = hub.files("org/a")["README.md"] + b"\nI am proud of this one.\n"
    edit(hub, "org/a", mine)
    pushed = adapters.push("a", "org/a", license="apache-2.0")
    assert pushed.card_kept and "written by hand and stays" in str(pushed)
    assert hub.files("org/a")["README.md"] == mine
    pushed = adapters.push("a", "org/a", license="apache-2.0", replace_card=True)
    assert not pushed.card_kept and b"license: apache-2.0" in hub.files("org/a")["README.md"]


def test_its_code_runs(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the code on the card makes computes what was pushed."""
    model, adapters = fresh(a=gw.Pfeiffer())
    model.config.name_or_path = "org/base"
    adapters.push(gw.Stack("a"), "org/a")
    text = hub.files("org/a")["README.md"].decode()
    assert "A composition of 1 part for the base" in text and "Stack('a')" in text
    (code,) = re.findall(r"```python\n(import.*?)```", text, re.DOTALL)
    model.save_pretrained(tmp_path / "org" / "base")  # transformers finds it as the folder of that name
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert torch.equal(computed(names["model"].eval(), names["adapters"], "a"), computed(model, adapters, "a"))
    assert names["adapters"].active == gw.Stack("a")


@pytest.mark.parametrize("form", ["graftwork", "adapterhub", "peft"])
def test_no_path_of_this_machine_is_sent(hub: Hub, tmp_path: Path, form: str) -> None:
    model, adapters = fresh(a=gw.LoRA(targets=["query"]))
    (tmp_path / "base").mkdir()
    model.config.name_or_path = str(tmp_path / "base")
    adapters.push("a", "org/a", format=form)
    text = hub.files("org/a")["README.md"].decode()
    assert "base_model" not in text and "model = ...  # a BertForSequenceClassification" in text
    adapters.push("a", "org/a", format=form, base_model="bert-base-uncased")
    assert metadata(hub.files("org/a")["README.md"].decode())["base_model"] == "bert-base-uncased"
    for file in hub.files("org/a").values():
        assert str(tmp_path).encode() not in file
    fresh()[1].load("org/a", "again")
