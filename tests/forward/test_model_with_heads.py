"""Named heads on a headless base: each alone, by rows, several at once, in files, beside the base's own words."""

import copy
import inspect
import pickle

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    GPT2Config,
    T5Config,
    ViTConfig,
)

import graftwork as gw
from graftwork.heads import (
    CausalLM,
    Classification,
    MaskedLM,
    MultipleChoice,
    QuestionAnswering,
    Regression,
    Seq2SeqLM,
    TokenClassification,
)

BERT = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
GPT2 = GPT2Config(
    vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2
)
T5 = T5Config(
    vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, pad_token_id=0
)
VIT = ViTConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
)


def headed(config=BERT, make=AutoModel, names=("a", "b")):
    torch.manual_seed(0)
    adapters = gw.attach(gw.ModelWithHeads(make.from_config(config)).eval())
    for name in names:
        adapters.add(name, gw.Pfeiffer(bottleneck_size=4))
    return adapters


def batch(rows=3, positions=6, padded=True):
    ids = torch.randint(3, 40, (rows, positions), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, 4:] = 0
        ids[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_without_a_head_it_is_its_base():
    adapters = headed()
    inputs = batch()
    assert torch.equal(adapters.model(**inputs).last_hidden_state, adapters.model.base(**inputs).last_hidden_state)
    with pytest.raises(gw.CompositionError, match="no head is in use"):
        adapters.model(**inputs, labels=torch.zeros(3).long())


CASES = {
    "classification": (Classification(labels=("x", "y", "z")), (3, 3), torch.tensor([0, 2, 1])),
    "multi_label": (Classification(labels=4, multi_label=True), (3, 4), torch.eye(4)[:3]),
    "regression": (Regression(), (3, 1), torch.tensor([0.5, 1.0, 2.0])),
    "tagging": (TokenClassification(labels=5), (3, 6, 5), torch.full((3, 6), 2)),
    "choice": (MultipleChoice(choices=3), (1, 3), torch.tensor([1])),
    "answers": (QuestionAnswering(), (3, 6, 2), torch.tensor([[1, 2], [0, 0], [3, 5]])),
    "masked": (MaskedLM(), (3, 6, 40), torch.full((3, 6), 7)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_head_gives_logits_and_a_loss_that_its_weights_follow(case):
    config, shape, labels = CASES[case]
    adapters = headed()
    adapters.add_head("a", config)
    adapters.train_only("a")
    output = adapters.model(**batch(), labels=labels)
    assert output.logits.shape == shape
    output.loss.backward()
    learning = [(n, p) for n, p in adapters.model.named_parameters() if p.requires_grad]
    assert learning and all("graftwork" in n for n, _ in learning)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in learning if ".heads." in n), case
    assert not adapters.model.base.get_input_embeddings().weight.requires_grad


def test_losses_are_the_plain_formulas():
    adapters = headed()
    inputs, plain = batch(), {}
    for case, (config, _, labels) in CASES.items():
        adapters.add_head(case, config)
        with adapters.using("a", head=case):
            plain[case] = (adapters.model(**inputs, labels=labels), labels)
    out, labels = plain["classification"]
    assert torch.equal(out.loss, -out.logits.log_softmax(-1)[range(3), labels].mean())
    out, labels = plain["multi_label"]
    expected = -(labels * out.logits.sigmoid().log() + (1 - labels) * (-out.logits).sigmoid().log()).mean()
    assert torch.allclose(out.loss, expected)
    out, labels = plain["regression"]
    assert torch.allclose(out.loss, ((out.logits[:, 0] - labels) ** 2).mean())
    out, labels = plain["answers"]
    starts, ends = out.logits.log_softmax(1).unbind(-1)
    expected = -(starts[range(3), labels[:, 0]].mean() + ends[range(3), labels[:, 1]].mean()) / 2
    assert torch.allclose(out.loss, expected)
    out, labels = plain["tagging"]
    assert torch.allclose(out.loss, F.cross_entropy(out.logits.view(-1, 5), labels.view(-1)))


def test_a_batch_without_any_label_that_counts_has_a_loss_of_zero():
    adapters = headed()
    adapters.add_head("a", TokenClassification(labels=5))
    adapters.train_only("a")
    loss = adapters.model(**batch(), labels=torch.full((3, 6), -100)).loss
    loss.backward()
    assert loss == 0


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_padding_changes_no_answer(pooling):
    adapters = headed()
    adapters.add_head("a", Classification(labels=2, pooling=pooling))
    adapters.active = "a"
    inputs = batch(rows=1)
    short = {k: v[:, :4] for k, v in inputs.items()}
    assert torch.allclose(adapters.model(**inputs).logits, adapters.model(**short).logits, atol=1e-6)


def test_heads_by_rows_are_each_alone():
    adapters = headed()
    adapters.add_head("a", Classification(labels=2))
    adapters.add_head("b", TokenClassification(labels=5))
    inputs = batch()
    with adapters.using("a"):
        alone_a = adapters.model(**inputs).logits
    with adapters.using("b"):
        alone_b = adapters.model(**inputs).logits
    with adapters.using(gw.MixedBatch(["a", "b", "a"])):
        mixed = adapters.model(**inputs, labels={"a": torch.tensor([0, 1]), "b": torch.full((3, 6), 1)})
    assert mixed.logits is None and mixed.by_head["a"].rows == (0, 2) and mixed.by_head["b"].rows == (1,)
    assert torch.allclose(mixed.by_head["a"].logits, alone_a[[0, 2]], atol=1e-6)
    assert torch.allclose(mixed.by_head["b"].logits, alone_b[[1]], atol=1e-6)
    expected = mixed.by_head["a"].loss * 2 / 3 + mixed.by_head["b"].loss / 3
    assert torch.allclose(mixed.loss, expected)
    with adapters.using(gw.Replicate("a", "b")):
        both = adapters.model(**inputs)
    assert torch.allclose(both.by_head["a"].logits, alone_a, atol=1e-6)
    assert torch.allclose(both.by_head["b"].logits, alone_b, atol=1e-6)


def test_several_heads_over_one_text():
    adapters = headed()
    adapters.add_head("sentiment", Classification(labels=2))
    adapters.add_head("names", TokenClassification(labels=5))
    adapters.activate("a", head=["sentiment", "names"])
    inputs = batch()
    output = adapters.model(**inputs, labels={"sentiment": torch.tensor([0, 1, 1])})
    assert output.by_head["names"].logits.shape == (3, 6, 5) and output.by_head["names"].loss is None
    assert torch.equal(output.loss, output.by_head["sentiment"].loss)


def test_a_head_by_itself_learns_saves_and_loads(tmp_path):
    adapters = headed()
    adapters.add_head("plain", Classification(labels=("no", "yes")))
    adapters.train_only("plain")
    assert adapters.active is None and adapters.trainable == ("plain",)
    inputs = batch()
    adapters.model(**inputs, labels=torch.tensor([0, 1, 0])).loss.backward()
    assert {n for n, p in adapters.model.named_parameters() if p.grad is not None} == {
        n for n, _ in adapters.model.named_parameters() if ".heads.n_plain." in n
    }
    before = adapters.model(**inputs).logits
    adapters.save("plain", tmp_path / "plain")
    other = headed()
    assert other.load(tmp_path / "plain") == "plain"
    with other.using(None, head="plain"):
        assert torch.equal(other.model(**inputs).logits, before)
    assert "plain" in str(other.summary())
    adapters.active = None
    adapters.remove("plain")
    assert adapters.lone_heads == ()


def test_an_adapter_keeps_its_head_in_its_file(tmp_path):
    adapters = headed()
    adapters.add_head("a", TokenClassification(labels=("O", "B")))
    adapters.add_fusion(gw.Fuse("a", "b", name="ab"), head_from="a")
    adapters.save("a", tmp_path / "a")
    adapters.save(gw.Fuse("a", "b", name="ab"), tmp_path / "ab", members=True)
    inputs = batch()
    for folder, what in (("a", "a"), ("ab", gw.Fuse("a", "b", name="ab"))):
        other = headed(names=())
        assert other.load(tmp_path / folder) == what
        assert other.head_config("a") == TokenClassification(labels=("O", "B"))
        with adapters.using(what), other.using(what):
            assert torch.equal(adapters.model(**inputs).logits, other.model(**inputs).logits)
    plain = gw.attach(AutoModel.from_config(BERT).eval())
    plain.model.load_state_dict(
        {k.removeprefix("base."): v for k, v in adapters.model.state_dict().items() if "graftwork" not in k},
        strict=False,
    )
    plain.load(tmp_path / "a")  # a base without heads leaves it aside
    with pytest.raises(gw.CheckpointError):
        plain.load(tmp_path / "a", "again", head=True)


def test_copies_and_pickles_have_heads_of_their_own():
    adapters = headed()
    adapters.add_head("a", MaskedLM())
    adapters.activate("a")
    inputs = batch()
    before = adapters.model(**inputs).logits
    for other in (copy.deepcopy(adapters.model), pickle.loads(pickle.dumps(adapters.model))):
        assert torch.equal(other(**inputs).logits, before)
        with torch.no_grad():
            other.base.get_input_embeddings().weight.zero_()
        assert not torch.equal(other(**inputs).logits, before)  # tied to its own base
        assert torch.equal(adapters.model(**inputs).logits, before)


def test_tied_words_are_no_weights_of_the_head():
    adapters = headed(GPT2)
    adapters.add_head("a", CausalLM())
    adapters.train_only("a")
    assert not list(adapters.head_of("a")["head"].parameters())
    inputs = batch()
    output = adapters.model(**inputs, labels=inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100))
    output.loss.backward()
    assert adapters.model.base.get_input_embeddings().weight.grad is None
    states = adapters.model.base(**inputs).last_hidden_state
    assert states.shape[-1] == 16 and output.logits.shape == (3, 6, 40)


@pytest.mark.parametrize("make", [AutoModel, AutoModelForSeq2SeqLM])
def test_text_to_text(make):
    adapters = headed(T5, make)
    scale = 16**-0.5
    adapters.add_head("a", Seq2SeqLM(scale=scale))
    adapters.add_head("b", Classification(labels=2))
    adapters.train_only("a")
    inputs, labels = batch(), torch.tensor([[5, 6, 1], [7, 1, -100], [8, 9, 1]])
    output = adapters.model(**inputs, labels=labels)
    assert output.logits.shape == (3, 3, 40)
    whole = AutoModelForSeq2SeqLM.from_config(T5).eval()
    source = {k.removeprefix("base."): v for k, v in adapters.model.state_dict().items() if "graftwork" not in k}
    whole.load_state_dict(source, strict=False)
    whole.tie_weights()
    if make is AutoModel:
        expected = whole(**inputs, labels=labels).loss  # Pfeiffer starts near, not at, the base
        assert abs(float((output.loss - expected).detach())) < 0.1
        with pytest.raises(gw.ConfigError, match="cannot generate"):
            adapters.model.generate(**inputs)
    else:
        assert adapters.model.generate(**inputs, max_new_tokens=3).shape[0] == 3
    with adapters.using("b"):
        assert adapters.model(**inputs, labels=torch.tensor([0, 1, 0])).logits.shape == (3, 2)
    with (
        adapters.using(gw.MixedBatch(["a", "b", "a"])),
        pytest.raises(gw.CompositionError, match="language-model head"),
    ):
        adapters.model(**inputs, labels=labels)


def test_words_of_a_base_that_computes_them():
    adapters = headed(GPT2, AutoModelForCausalLM)
    adapters.add_head("a", CausalLM())
    adapters.add_head("b", Regression())
    inputs = batch(padded=False)
    with adapters.using("a", head=None):
        own = adapters.model(**inputs, labels=inputs["input_ids"])
    with adapters.using("a"):
        output = adapters.model(**inputs, labels=inputs["input_ids"])
    assert torch.equal(output.logits, own.logits) and torch.allclose(output.loss, own.loss)
    with adapters.using("b"):
        assert adapters.model(**inputs).logits.shape == (3, 1)


def test_images():
    adapters = headed(VIT)
    adapters.add_head("a", Classification(labels=10))
    adapters.train_only("a")
    assert adapters.model(pixel_values=torch.rand(2, 3, 8, 8), labels=torch.tensor([1, 2])).logits.shape == (2, 10)


def test_bad_heads_are_refused():
    adapters = headed(VIT)
    with pytest.raises(gw.ConfigError, match="embeddings"):
        adapters.add_head("a", MaskedLM())
    with pytest.raises(gw.ConfigError, match=r"give one of graftwork\.heads"):
        adapters.add_head("a", 3)
    with pytest.raises(gw.UnknownNameError, match="head"):
        adapters.activate("a", head="nowhere")
    with pytest.raises(gw.ConfigError, match="labels"):
        Classification(labels=("x", "x"))
    with pytest.raises(gw.ConfigError, match="did you mean 'labels'"):
        Classification(label=2)
    plain = gw.attach(AutoModel.from_config(BERT))
    plain.add("a", gw.Pfeiffer())
    with pytest.raises(gw.ConfigError, match=r"gw\.ModelWithHeads"):
        plain.add_head("a", Classification(labels=2))
    choice = headed()
    choice.add_head("a", MultipleChoice(choices=2))
    choice.active = "a"
    with pytest.raises(gw.ConfigError, match="2 choices was given 3 rows"):
        choice.model(**batch())


def test_a_bfloat16_base_has_heads_of_float32():
    torch.manual_seed(0)
    adapters = gw.attach(gw.ModelWithHeads(AutoModel.from_config(BERT).bfloat16()))
    adapters.add("a", gw.Pfeiffer(bottleneck_size=4))
    for config, _, labels in (CASES[c] for c in ("classification", "tagging", "masked")):
        adapters.add_head("a", config)
        adapters.train_only("a")
        output = adapters.model(**batch(), labels=labels)
        output.loss.backward()
        assert output.loss.dtype is torch.float32
        assert {p.dtype for p in adapters.head_of("a")["head"].parameters()} == {torch.float32}


def test_detach_leaves_the_base():
    adapters = headed()
    adapters.add_head("a", Classification(labels=2))
    model = adapters.model
    adapters.detach()
    assert not [n for n, _ in model.named_modules() if "graftwork" in n]
    assert model(**batch()).last_hidden_state.shape == (3, 6, 16)


def test_what_looks_back_generates_without_a_cache() -> None:
    """A method that mixes positions needs the earlier ones: asked for or not, what is generated is what no cache gives."""
    adapters = headed(T5, AutoModelForSeq2SeqLM, ())
    adapters.add("pal", gw.PAL(size=8, heads=2))
    torch.manual_seed(1)
    for module in adapters.modules_of("pal").values():
        for p in module.parameters():
            torch.nn.init.normal_(p, std=0.5)
    for p in adapters.shared_of("pal").parameters():
        torch.nn.init.normal_(p, std=0.5)
    given = {**batch(), "max_new_tokens": 5, "min_new_tokens": 5}
    plain = adapters.model.generate(**given)
    with adapters.using("pal"):
        found = adapters.model.generate(**given)
        assert torch.equal(found, adapters.model.generate(**given, use_cache=False)) and not torch.equal(found, plain)
        with pytest.raises(gw.CompositionError, match="use_cache=False"):
            adapters.model.generate(**given, use_cache=True)


def test_it_names_the_inputs_of_its_base_and_is_as_its_base_is():
    base = AutoModel.from_config(BERT).eval()
    model = gw.ModelWithHeads(base)
    assert not model.training
    names = list(inspect.signature(model.forward).parameters)
    assert {"input_ids", "attention_mask", "labels"} <= {*names}
    assert set(inspect.signature(base.forward).parameters) <= {*names}
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert twin.forward.headed is twin


def test_a_trainer_keeps_the_columns_that_its_base_takes(tmp_path):
    datasets = pytest.importorskip("datasets")
    from transformers import Trainer, TrainingArguments

    model = headed(names=("a",)).model
    gw.of(model).add_head("a", Classification(labels=3))
    gw.of(model).train_only("a")
    rows = {"input_ids": [[5, 6, 7]] * 4, "attention_mask": [[1, 1, 1]] * 4, "labels": [0, 1, 2, 0], "text": ["x"] * 4}
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    done = Trainer(model=model, args=arguments, train_dataset=datasets.Dataset.from_dict(rows)).train()
    assert done.training_loss > 0


@pytest.mark.parametrize("base", [BERT, GPT2], ids=["bert", "gpt2"])
@pytest.mark.parametrize("method", ["prefix", "prompt", "p_tuning", "mam", "unipelt"])
def test_prompts_and_prefixes_enter_below_every_head(method, base):
    """Padding moves nothing, and a head over positions has those of the text."""
    peft = pytest.importorskip("peft")
    made = {
        "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3),
        "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=3),
        "p_tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8),
        "mam": lambda: gw.MAM(prefix_tokens=3, prefix_size=8, bottleneck_size=4),
        "unipelt": lambda: gw.UniPELT(
            prefix_tokens=3,
            prefix_size=8,
            gated=("lora", "adapter"),
            lora_targets=None if base is BERT else ("c_attn",),
        ),
    }
    adapters = headed(base, names=())
    adapters.add("x", made[method]())
    for name, head in (("class", Classification(labels=3)), ("answers", QuestionAnswering())):
        adapters.add_head(name, head)
    short = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    long = {key: F.pad(value, (0, 3)) for key, value in short.items()}
    with torch.no_grad():
        with adapters.using("x", head="class"):
            torch.testing.assert_close(
                adapters.model(**short).logits, adapters.model(**long).logits, rtol=1e-4, atol=1e-5
            )
        with adapters.using("x", head="answers"):
            found = adapters.model(**short, labels=torch.tensor([[1, 3]]))
    assert found.logits.shape == (1, 4, 2)
    expected = sum(F.cross_entropy(found.logits[..., n], torch.tensor([place])) for n, place in enumerate((1, 3))) / 2
    torch.testing.assert_close(found.loss, expected)
