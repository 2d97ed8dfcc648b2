"""Triples from files, what is held out of them, their walks and their sentences."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

import graftwork as gw
from graftwork.tasks.knowledge import (
    KnowledgeSpec,
    Sentences,
    Triple,
    default_template,
    hold_out_triples,
    read_knowledge,
    read_triples,
    walks,
)

LINES = ["a\tknows\tb", "b\tknows\tc", "a\tcolour\tred", "c\tcolour\tblue", "b\tcolour\tred", "c\tknows\ta"]
GRAPH = [Triple(*line.split("\t")) for line in LINES]


def test_a_file_of_tabs_and_one_of_json_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("\n".join(["Subject\tPredicate\tobject", *LINES, "", LINES[0]]) + "\n")
    rows = [dict(zip(("subject", "predicate", "object"), line.split("\t"), strict=True)) for line in LINES]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress("\n".join(LINES).encode()))
    for name, first in (("a.tsv", 2), ("b.jsonl", 1), ("c.tsv.gz", 1)):
        found = read_triples(tmp_path / name)
        assert found == GRAPH
        assert str(found[0].place) == f"{tmp_path / name}:{first}"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.tsv", "a\tb\tc\na\tb", r"t\.tsv:2: 2 cells in 'a\\tb'"),
        ("t.tsv", "a\t\tc", r"t\.tsv:1: the predicate is ''"),
        ("t.tsv", "\n\n", "has no triples"),
        ("t.jsonl", '{"subject": "a", "object": "c"}', r"t\.jsonl:1: no 'predicate'"),
        ("t.jsonl", '{"subject": "a", "predicate": "b", "object": 3}', r"t\.jsonl:1: the object is 3"),
        ("t.jsonl", '{"subject": "a"', r"t\.jsonl:1: not JSON"),
        ("t.csv", "a,b,c", r"files that end in \.tsv"),
    ],
)
def test_what_is_no_triple_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(gw.TaskError, match=said):
        read_triples(tmp_path / name)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(gw.TaskError, match="is not there"):
        read_triples(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_bytes("a\tb\té".encode("latin-1"))
    with pytest.raises(gw.TaskError, match=r"t\.tsv:1: byte 5 .* no UTF-8"):
        read_triples(tmp_path / "t.tsv")


def test_what_is_held_out_could_be_known_from_the_rest() -> None:
    graph = [Triple(f"s{n % 10}", f"p{n % 3}", f"o{n % 4}") for n in range(60)]
    told, apart = hold_out_triples(graph, 0.25, seed=1)
    assert len(apart) == 15 and sorted(map(graph.index, apart)) and not {*told} & {*apart}
    for triple in apart:
        assert {triple.subject, triple.object} <= {node for t in told for node in (t.subject, t.object)}
        assert triple.predicate in {t.predicate for t in told}
    assert (told, apart) == hold_out_triples(graph, 0.25, seed=1) != hold_out_triples(graph, 0.25, seed=2)
    assert hold_out_triples(graph, 0.0) == (graph, [])
    only = [Triple("a", "p", "b"), Triple("c", "q", "d")]
    assert hold_out_triples(only, 0.5) == (only, [])  # nothing of it could be known


def test_walks_follow_the_relations() -> None:
    found = walks(GRAPH, each=5, length=4, seed=3)
    assert Counter(walk[0] for walk in found) == dict.fromkeys(GRAPH, 5)
    for walk in found:
        assert len({*walk}) == len(walk) <= 4
        assert all(one.object == other.subject for one, other in itertools.pairwise(walk))
        leading = [t for t in GRAPH if t.subject == walk[-1].object and t not in walk]
        assert len(walk) == 4 or not leading
    assert max(map(len, found)) == 4
    assert found == walks(GRAPH, each=5, length=4, seed=3) != walks(GRAPH, each=5, length=4, seed=4)
    assert all(len(walk) == 1 for walk in walks(GRAPH, length=1))


@pytest.mark.parametrize(
    ("predicate", "sentence"),
    [
        ("lives_in", "X lives in Y."),
        ("capitalOf", "X is capital of Y."),
        ("/r/IsA", "X is a Y."),
        ("has part", "X has part Y."),
        ("located-in", "X is located in Y."),
        ("colour", "The colour of X is Y."),
        ("birthPlace", "The birth place of X is Y."),
        ("class", "The class of X is Y."),
        ("https://example.org/terms/eats", "X eats Y."),
        ("→", "The → of X is Y."),
    ],
)
def test_a_sentence_from_a_name(predicate: str, sentence: str) -> None:
    assert default_template(predicate).format(subject="X", object="Y") == sentence


def test_templates_that_are_given() -> None:
    sentences = Sentences(["knows", "colour"], {"knows": "{subject}, says {subject}, has met {object}!"})
    assert sentences(GRAPH[0]) == "a, says a, has met b!"
    assert sentences.around(GRAPH[0]) == ("a, says a, has met ", "!")
    assert sentences(GRAPH[2]) == "The colour of a is red."
    with pytest.raises(gw.TaskError, match="no template for the predicate 'color'; did you mean 'colour'"):
        sentences(Triple("a", "color", "b"))


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        ({"know": "{subject} {object}"}, "knowledge 'k': no triple has the predicate 'know'; did you mean 'knows'"),
        ({"knows": "{subject} knows"}, "the template of 'knows' is '{subject} knows'; it must have {subject}"),
        ({"knows": "{object} knows {object}"}, "it must have {subject}, and {object} once"),
    ],
)
def test_templates_that_do_not_fit(templates: dict[str, str], said: str) -> None:
    with pytest.raises(gw.TaskError) as caught:
        Sentences(["knows"], templates, "knowledge 'k'")
    assert said in str(caught.value)


def test_knowledge_as_a_task(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("\n".join(LINES))
    spec = KnowledgeSpec(triples="t.tsv", held_out=0.3, walks=2, length=2, seed=5)
    knowledge = read_knowledge("k", spec, tmp_path)
    assert len(knowledge.held_out) == 1 and len(knowledge.told) == 5
    task = knowledge.task()
    assert task.kind.name == "masked_lm" and len(task.train) == 10
    assert [row["text"] for row in task.dev] == [knowledge.sentences(t) for t in knowledge.told]
    held_out = knowledge.sentences(knowledge.held_out[0])
    assert not any(held_out in row["text"] for row in (*task.train, *task.dev))
    assert any(row["text"].count(".") == 2 for row in task.train)
    assert [*read_knowledge("k", spec, tmp_path).task().train] == [*task.train]
    assert {name: len(part) for name, part in knowledge.clozes().items()} == {"told": 5, "held_out": 1}
    assert [*read_knowledge("k", spec.model_copy(update={"held_out": 0.0}), tmp_path).clozes()] == ["told"]
