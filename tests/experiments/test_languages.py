"""Adapters of languages and of knowledge in a recipe: under a task's, beside it, swapped; and what is said of mistakes."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM
from typer.testing import CliRunner

import graftwork as gw
from graftwork.cli import app
from graftwork.compose import Fuse, Stack
from graftwork.experiments import Recipe, Unit, Watcher, estimate, plan, run
from graftwork.experiments.running.run import read_tasks
from graftwork.experiments.running.run_context import RunContext
from graftwork.inference import Predictor
from graftwork.report import gather, tables
from graftwork.tasks import Task, TaskSpec
from graftwork.tasks.knowledge import read_knowledge, read_triples
from tests.experiments.test_kills import untimed
from tests.support.tiny_run import SPECIAL, WORDS, make_base, make_row

RECIPE = """
targets = ["a"]
controls = ["head", "average"]
adapter = {reduction_factor = 4}
language_adapter = {reduction_factor = 4}
knowledge_adapter = {bottleneck_size = 4}

[base]
model = "base"
max_length = 12

[languages]
en.text = "en.txt"
xx = {text = ["xx.txt", "more.jsonl"], rows = 24, dev = "xx-dev.txt"}

[knowledge]
facts = {triples = "facts.tsv", held_out = 0.2, walks = 2, templates = {likes = "{subject} likes the {object} ."}}
more = {triples = "facts.jsonl", walks = 1, templates = {likes = "{object} : {subject} likes it ."}}

[tasks.a]
data = "a"
language = "en"
knowledge = "facts"
beside = "more"
evaluate_in = {xx = "a-xx.jsonl"}
pooling = "mean"

[tasks.b]
data = "b"
evaluate_in = {elsewhere = "a"}
pooling = "mean"

[training]
epochs = 2
batch_size = 8
learning_rate = 1e-2
fusion = {learning_rate = 1e-2}
language = {learning_rate = 2e-2}
knowledge = {learning_rate = 5e-2, epochs = 4}
"""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepare(folder: Path) -> Path:
    """A tiny BERT that computes words, texts of two languages, triples, two tasks; gives the recipe's path."""
    make_base(folder / "base")  # for the tokenizer
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(SPECIAL) + len(WORDS), initializer_range=0.2, **size)
    BertForMaskedLM(config).save_pretrained(folder / "base")
    draw = random.Random(0)
    texts = [make_row(draw)["text"] for _ in range(40)]
    (folder / "en.txt").write_text("\n\n".join([" ".join(texts[:8]), *texts]))  # the first is a long one
    backwards = [" ".join(text.split()[::-1]) for text in texts]
    (folder / "xx.txt").write_text("\n".join(backwards[:20]))
    write_rows(folder / "more.jsonl", [{"text": text} for text in backwards[20:]])
    (folder / "xx-dev.txt").write_text("\n".join(backwards[:6]))
    pairs = [(a, b) for a in WORDS[:5] for b in WORDS[6:12]]
    triples = [(a, draw.choice(["likes", "is"]), b) for a, b in pairs]
    (folder / "facts.tsv").write_text("".join("\t".join(triple) + "\n" for triple in triples))
    names = ("subject", "predicate", "object")
    write_rows(folder / "facts.jsonl", [dict(zip(names, triple, strict=True)) for triple in triples])
    for task in ("a", "b"):
        (folder / task).mkdir()
        for split, count in (("train", 24), ("dev", 12)):
            write_rows(folder / task / f"{split}.jsonl", [make_row(draw) for _ in range(count)])
    turned = [make_row(draw) for _ in range(12)]
    write_rows(folder / "a-xx.jsonl", [{**row, "text": " ".join(row["text"].split()[::-1])} for row in turned])
    path = folder / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("languages")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return Recipe.read(prepare(folder))


@pytest.fixture(scope="module")
def results(folder: Path, recipe: Recipe) -> dict[str, Any]:
    torch.set_num_threads(1)
    return run(recipe, folder / "run", root=folder)


def test_what_stands_under_what(recipe: Recipe) -> None:
    units = {unit.id: unit for unit in plan(recipe)}
    ids = [*units]
    assert ids[:5] == ["language/en/0", "language/xx/0", "knowledge/facts/0", "knowledge/more/0", "adapter/a/0"]
    under = (units["language/en/0"], units["knowledge/facts/0"])
    assert units["adapter/a/0"].stacked_on == units["fusion/a/0"].stacked_on == units["average/a/0"].stacked_on == under
    assert units["adapter/b/0"].stacked_on == units["head/a/0"].stacked_on == ()
    pool = [units[name] for name in ("adapter/a/0", "adapter/b/0", "knowledge/more/0")]
    assert [*units["fusion/a/0"].members] == [*units["average/a/0"].members] == pool
    for n, unit in enumerate(units.values()):
        assert all(other.id in ids[:n] for other in (*unit.members, *unit.stacked_on))


def test_what_the_adapters_are(recipe: Recipe) -> None:
    assert recipe.adapter_config() == gw.Pfeiffer(reduction_factor=4)
    assert recipe.adapter_config("knowledge") == gw.Houlsby(bottleneck_size=4, norms="base")
    plain = Recipe.make({"base": {"model": "base"}, "languages": {"en": {"text": "en.txt"}}})
    assert plain.adapter_config("knowledge") == gw.Houlsby(bottleneck_size=64, norms="base")
    assert plain.adapter_config("language") == gw.InvertiblePfeiffer(reduction_factor=2)
    assert [unit.id for unit in plan(plain)] == ["language/en/0"]


def test_everything_is_trained_and_measured(results: dict[str, Any], recipe: Recipe) -> None:
    assert results["complete"]
    units = {unit["unit"]: unit for unit in results["units"]}
    assert [*units] == [unit.id for unit in plan(recipe)]
    assert [row["task"] for row in results["languages"]] == ["en", "xx"]
    for name in ("language/en/0", "language/xx/0", "knowledge/facts/0"):
        assert units[name]["metric"] == "log_likelihood" and units[name]["trained_weights"] > 0
        losses = [loss for _, loss in units[name]["curves"]["loss"]]
        assert losses and all(0 < loss < 10 for loss in losses)
    # each loss is of other words that were masked; the likelihood is of fixed ones
    likelihoods = [value for _, value in units["knowledge/facts/0"]["curves"]["score"]]
    assert max(likelihoods[1:]) > likelihoods[0] + 0.1
    assert units["language/xx/0"]["steps"] == 2 * 3  # it has so many rows
    told = units["knowledge/facts/0"]["cloze"]
    assert told["told"]["before"]["count"] + told["held_out"]["before"]["count"] == 30
    assert [*units["knowledge/more/0"]["cloze"]] == ["told"]
    assert told["told"]["after"] != told["told"]["before"]
    assert units["fusion/a/0"]["attention"]["adapters"] == ["a", "b", "more"]
    assert units["fusion/a/0"]["under"] == ["language/en/0", "knowledge/facts/0"]
    for name in ("adapter/a/0", "fusion/a/0", "average/a/0", "head/a/0"):
        assert units[name]["language"] == "en" and [*units[name]["elsewhere"]] == ["xx"]
    # a folder's dev rows, where there are no test rows, and no language to be swapped
    assert units["adapter/b/0"]["language"] is None and [*units["adapter/b/0"]["elsewhere"]] == ["elsewhere"]


def test_what_stands_under_a_task_is_left_as_it_was(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    context = RunContext(recipe, folder, folder / "run", read_tasks(recipe, folder))
    units = {unit.id: unit for unit in plan(recipe)}
    adapters, _ = context.set_up(units["adapter/a/0"])
    assert adapters.active == Stack("en", "facts", "a") and adapters.trainable == ("a",)
    learns = {id(p) for p in adapters.model.parameters() if p.requires_grad}
    own = [*adapters.modules_of("a").values(), *adapters.head_of("a").values()]
    assert learns == {id(p) for module in own for p in module.parameters()}
    adapters, stage = context.set_up(units["fusion/a/0"])
    assert (
        adapters.active == Stack("en", "facts", Fuse("a", "b", "more", name="fusion-a")) and stage.saves == "fusion-a"
    )
    assert adapters.trainable == ("fusion-a",)


@pytest.mark.parametrize("kind", ["adapter", "fusion", "average", "head"])
@pytest.mark.parametrize("language", [None, "xx"])
def test_a_fresh_model_predicts_what_was_scored(
    folder: Path, results: dict[str, Any], kind: str, language: str | None
) -> None:
    if kind == "head" and language:
        with pytest.raises(gw.RecipeError, match="stacked on no language's adapter"):
            Predictor(folder / "run", "a", kind=kind, language=language)
        return
    predictor = Predictor(folder / "run", "a", kind=kind, language=language)
    unit = next(u for u in results["units"] if u["unit"] == predictor.unit.id)
    task = Task.read("a", predictor.spec, folder)
    rows = task.dev if language is None else task.elsewhere[language]
    expected = unit["scores"]["dev"] if language is None else unit["elsewhere"][language]
    assert task.score(predictor.predict(rows), rows) == pytest.approx(expected)


def test_triples_are_told_in_the_words_of_the_recipe(folder: Path, recipe: Recipe) -> None:
    """Both files of triples, each with a template of its own; a predicate without one is named as it is."""
    first = read_triples(folder / "facts.tsv")[0]
    assert first in read_triples(folder / "facts.jsonl")
    told = {}
    for name, spec in recipe.knowledge.items():
        task = read_knowledge(name, spec, folder).task()
        told[name] = {row["text"] for row in (*task.train, *task.dev)}
    assert any(" likes the " in text for text in told["facts"])
    assert any(" likes it ." in text for text in told["more"]) and not any(" likes the " in t for t in told["more"])
    assert all(any(" is " in text for text in texts) for texts in told.values())


def test_the_command_line_swaps_the_language(folder: Path, results: dict[str, Any]) -> None:
    text = "good film the plot was nice"
    answers = {}
    for language in ("en", "xx"):
        given = ["predict", str(folder / "run"), "--task", "a", "--kind", "adapter", "--language", language, text]
        ran = CliRunner().invoke(app, given)
        assert ran.exit_code == 0, ran.output
        answers[language] = json.loads(ran.stdout)
        predictor = Predictor(folder / "run", "a", kind="adapter", language=language)
        assert answers[language]["value"] == predictor.predict([{"text": text}])[0].to_dict()["value"]
    assert answers["en"] != answers["xx"]
    wrong = CliRunner().invoke(app, ["predict", str(folder / "run"), "--task", "a", "--language", "yy", text])
    assert wrong.exit_code == 1 and "there are those of en, xx" in wrong.stderr


def test_the_language_makes_a_difference(folder: Path, results: dict[str, Any]) -> None:
    rows = [{"text": "good film the plot was nice"}]
    one, other = (Predictor(folder / "run", "a", kind="adapter", language=name) for name in ("en", "xx"))
    assert one.adapters.active == Stack("en", "facts", "a") and other.adapters.active == Stack("xx", "facts", "a")
    assert one.predict(rows)[0].to_dict() != other.predict(rows)[0].to_dict()
    with pytest.raises(gw.RecipeError, match="no adapter of the language 'yy'; there are those of en, xx"):
        Predictor(folder / "run", "a", language="yy")


def test_the_files_serve_outside_the_recipe(folder: Path, results: dict[str, Any]) -> None:
    base = gw.ModelWithHeads(BertForMaskedLM.from_pretrained(folder / "base"))
    adapters = gw.attach(base)
    for unit, name in (("language/en", "en"), ("knowledge/facts", "facts")):
        assert adapters.load(folder / "run" / "units" / unit / "0" / "adapter") == name
    adapters.add("new", gw.Pfeiffer(reduction_factor=8))
    adapters.add_head("new", gw.heads.Classification(labels=2))
    adapters.train_only("new", active=Stack("en", "facts", "new"))
    ids = torch.arange(5, 15).view(2, 5)
    adapters.model(input_ids=ids, labels=torch.tensor([0, 1])).loss.backward()
    learnt = {n for n, p in adapters.model.named_parameters() if p.grad is not None}
    assert learnt and learnt == {n for n, p in adapters.model.named_parameters() if p.requires_grad}


def test_a_later_recipe_stands_over_what_is_trained(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    units = "run/units"
    later = Recipe.make(
        {
            "base": {"model": "base", "max_length": 12},
            "trained": {
                **{name: f"{units}/language/{name}/0/adapter" for name in ("en", "xx")},
                "facts": f"{units}/knowledge/facts/0/adapter",
            },
            "tasks": {"a": recipe.tasks["a"].model_dump(exclude_unset=True) | {"beside": ()}},
            "training": recipe.training.model_dump(exclude_unset=True),
            "adapter": {"reduction_factor": 4},
        }
    )
    assert [unit.id for unit in plan(later)] == ["adapter/a/0"]
    found = run(later, folder / "later", root=folder)["units"][0]
    (before,) = (unit for unit in results["units"] if unit["unit"] == "adapter/a/0")
    assert untimed(found) == untimed(before)
    for language in (None, "xx"):
        predictor = Predictor(folder / "later", language=language)
        task = Task.read("a", predictor.spec, folder)
        rows = task.elsewhere["xx"]
        score = task.score(predictor.predict(rows), rows)
        assert language is None or score == pytest.approx(found["elsewhere"]["xx"])


def test_the_tables(folder: Path, results: dict[str, Any]) -> None:
    found = gather(folder / "run")
    made = {table.title: table for table in tables(found.results, found.units)}
    elsewhere = made["a: accuracy, % elsewhere, learnt in en"]
    assert elsewhere.columns == ["", "en (dev)", "→ xx"]
    assert [row[0] for row in elsewhere.rows] == ["head only", "single adapter", "uniform mean of 3", "fusion of all 3"]
    unit = next(u for u in results["units"] if u["unit"] == "adapter/a/0")
    assert elsewhere.rows[1][2] == f"{100 * unit['elsewhere']['xx']['accuracy']:.1f}"
    assert "b: accuracy, % elsewhere" in made
    assert [row[0] for row in made["Languages: one adapter each"].rows] == ["en", "xx"]
    assert [row[0] for row in made["Knowledge: one adapter each"].rows] == ["facts", "more"]
    assert [row[0] for row in made["Clozes: what is known"].rows] == ["facts, told", "facts, held out", "more, told"]
    for table in made.values():
        assert table.markdown() and table.text()


def test_one_that_is_interrupted_ends_in_the_same_results(
    folder: Path, recipe: Recipe, results: dict[str, Any], tmp_path: Path
) -> None:
    class Stop(Watcher):
        def __init__(self, kind: str, step: int) -> None:
            self.kind, self.step = kind, step

        def stepped(self, unit: Unit, step: int, steps: int) -> None:
            if (unit.kind, step) == (self.kind, self.step):
                raise KeyboardInterrupt

    for moment in (("language", 8), ("knowledge", 7), ("adapter", 5)):
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path / "run", root=folder, watcher=Stop(*moment))
    assert untimed(run(recipe, tmp_path / "run", root=folder)) == untimed(results)
    for unit in ("language/en/0", "knowledge/facts/0", "adapter/a/0"):
        one, other = (place / "units" / unit / "adapter" for place in (folder / "run", tmp_path / "run"))
        for file in one.glob("*.safetensors"):
            assert file.read_bytes() == (other / file.name).read_bytes()


def test_the_estimate_counts_them(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    new = estimate(recipe, root=folder)
    weights = {(u["kind"], u["task"]): u["trained_weights"] for u in results["units"]}
    assert {(row.kind, row.task): row.trained_weights for row in new.rows} == weights


TABLES: dict[str, Any] = {
    "base": {"model": "base"},
    "languages": {"en": {"text": "en.txt"}},
    "knowledge": {"facts": {"triples": "facts.tsv"}},
    "tasks": {"a": {"data": "a"}, "b": {"data": "b"}},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"tasks": {"a": {"language": "de"}}},
            "tasks.a.language: 'de' is neither in [languages] nor in [trained]; there are en",
        ),
        (
            {"tasks": {"a": {"language": "en", "evaluate_in": {"fr": "x"}}}},
            "tasks.a.evaluate_in: 'fr' is neither in [languages] nor in [trained]; there are en",
        ),
        (
            {"tasks": {"a": {"knowledge": "x"}}, "knowledge": {}},
            "'x' is neither in [knowledge] nor in [trained]; there are none",
        ),
        ({"tasks": {"a": {"beside": ["facts"]}}}, "tasks.a.beside: only for a target"),
        (
            {"tasks": {"a": {"beside": "facts", "knowledge": "facts"}}, "targets": ["a"]},
            "the knowledge 'facts' is named twice",
        ),
        ({"tasks": {"en": {}}}, "'en' is the name of two of tasks, languages, knowledge and what is trained"),
        ({"tasks": {}, "languages": {}, "knowledge": {}}, "there is nothing to train"),
        ({"language_adapter": {"method": "pfeifer"}}, "language_adapter: method 'pfeifer' is not known"),
        (
            {"tasks": {"a": {"beside": "facts"}}, "targets": ["a"], "knowledge_adapter": {"method": "houlsby"}},
            'say norms = "base" in [knowledge_adapter]',
        ),
        ({"languages": {"en": {}}}, "languages.en.text: this key has to be given"),
        ({"languages": {"en": {"text": []}}}, "languages.en.text"),
        ({"knowledge": {"facts": {"triples": "t", "held_out": 1.0}}}, "knowledge.facts.held_out"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.RecipeError) as caught:
        Recipe.make({**TABLES, **changes})
    assert said in str(caught.value)


def test_a_fusion_of_one_task_and_what_is_beside_it() -> None:
    made = Recipe.make({**TABLES, "tasks": {"a": {"beside": "facts"}}, "targets": ["a"], "controls": []})
    assert [u.id for u in plan(made)][-1] == "fusion/a/0" and len(plan(made)[-1].members) == 2


def test_texts_and_other_rows_that_cannot_be_read(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    from graftwork.tasks.languages import LanguageSpec, language_task

    (tmp_path / "empty.txt").write_text("\n \n")
    write_rows(tmp_path / "rows.jsonl", [{"text": "a"}, {"txt": "b"}])
    for text, said in (
        ("none.txt", r"none\.txt is not there"),
        ("empty.txt", r"empty\.txt is empty: it has no texts"),
        ("rows.jsonl", r"rows\.jsonl:2: no text"),
    ):
        with pytest.raises(gw.TaskError, match=said):
            language_task("en", LanguageSpec(text=text), tmp_path)
    shutil.copytree(folder / "a", tmp_path / "a")
    spec = TaskSpec(data="a", evaluate_in={"de": str(tmp_path / "de")})
    with pytest.raises(gw.TaskError, match="de' is not there"):
        Task.read("a", spec, tmp_path)
    (tmp_path / "de").mkdir()
    shutil.copy(tmp_path / "a" / "train.jsonl", tmp_path / "de")
    with pytest.raises(gw.TaskError, match="neither test nor dev rows"):
        Task.read("a", spec, tmp_path)
    write_rows(tmp_path / "de" / "test.jsonl", [{"text": "a film"}])
    with pytest.raises(gw.TaskError, match=r"test\.jsonl:1: no column 'label'"):
        Task.read("a", spec, tmp_path)
    write_rows(tmp_path / "de" / "test.jsonl", [{"text": "a film", "label": "pos"}])
    assert len(Task.read("a", spec, tmp_path).elsewhere["de"]) == 1


def test_a_base_that_computes_no_words_is_named(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    only = Recipe.make({"base": {"model": "base"}, "languages": {"en": {"text": str(folder / "en.txt")}}})
    with pytest.raises(
        gw.RecipeError, match=r"has no weights for .* give a model that was saved as AutoModelForMaskedLM"
    ):
        run(only, tmp_path / "run", root=tmp_path)
