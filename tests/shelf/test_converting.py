"""From one format to another with the same outputs, or nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.errors import CheckpointError, ConfigError
from graftwork.shelf import convert, inspect, load_model
from tests.checkpoint.common import added
from tests.support.saved_adapters import SIZES, bert

IDS = {"input_ids": torch.arange(10).view(2, 5)}


def logits(folder: Path, *pool: Path) -> torch.Tensor:
    """What a fresh base computes with a folder."""
    model = bert()
    adapters = gw.attach(model)
    for one in pool:
        adapters.load(one)
    adapters.active = adapters.load(folder)
    with torch.no_grad():
        return model(**IDS).logits


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("mrpc", ["adapterhub", "graftwork"]),
        ("mrpc-hub", ["graftwork", "adapterhub"]),
        ("sst2-peft", ["graftwork", "adapterhub", "peft"]),
        ("stack", ["adapterhub", "graftwork"]),
        ("whole", ["adapterhub", "graftwork"]),
    ],
)
def test_there_and_back(name: str, formats: list[str], saved: Path, tmp_path: Path) -> None:
    source = saved / name
    expected = logits(source)
    for number, format in enumerate(formats):
        target = tmp_path / f"{number}"
        done = convert(inspect(source), target, format, bert())
        assert done.folder == target and done.difference <= 1e-5 and inspect(target).format == format
        torch.testing.assert_close(logits(target), expected, atol=1e-5, rtol=1e-5)
        source = target
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(n) for n in range(len(formats))]


def test_a_fusion_is_given_its_pool(saved: Path, tmp_path: Path) -> None:
    found, pool = inspect(saved / "fusion"), [saved / "mrpc", saved / "rte"]
    with pytest.raises(CheckpointError, match=r"needs 'mrpc', 'rte'.*--with FOLDER"):
        convert(found, tmp_path / "out", "adapterhub", bert())
    convert(found, tmp_path / "out", "adapterhub", bert(), pool=pool)
    torch.testing.assert_close(logits(tmp_path / "out", *pool), logits(saved / "fusion", *pool), atol=1e-5, rtol=1e-5)


def test_what_a_format_cannot_express_is_refused_by_name(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="'mrpc' is a pfeiffer adapter, which peft does not have"):
        convert(inspect(saved / "mrpc"), out, "peft", bert())
    with pytest.raises(CheckpointError, match="holds a composition, and peft's files have one adapter"):
        convert(inspect(saved / "stack"), out, "peft", bert())
    with pytest.raises(CheckpointError, match="holds the difference of a base; only adapters"):
        convert(inspect(saved / "base"), out, "adapterhub", bert())
    with pytest.raises(ConfigError, match="the format 'hub' is not known"):
        convert(inspect(saved / "mrpc"), out, "hub", bert())
    assert not any(tmp_path.iterdir())


def test_nothing_is_written_over(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for target in ("out", "out/mine", "link"):
        with pytest.raises(CheckpointError, match="is there already"):
            convert(inspect(saved / "mrpc"), tmp_path / target, "adapterhub", bert())
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_other_outputs_are_not_written(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a writer does wrong is seen before the folder is in place."""
    from graftwork.shelf import converting

    write = converting.save_folder

    def wrong(handle: gw.Adapters, *args: object, **options: object) -> Path:
        with torch.no_grad():
            next(iter(handle.modules_of("mrpc").values())).up.mul_(9)  # type: ignore[operator, union-attr]
        return write(handle, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(converting, "save_folder", wrong)
    with pytest.raises(CheckpointError, match="its outputs would differ"):
        convert(inspect(saved / "mrpc"), tmp_path / "out", "adapterhub", bert())
    assert not any(tmp_path.iterdir())


def test_a_head_that_a_format_cannot_hold_is_told(made: Path, tmp_path: Path) -> None:
    adapters = gw.attach(gw.ModelWithHeads(hf.AutoModel.from_pretrained(made / "model")))
    added(adapters, a=gw.LoRA(targets=["query"]))
    adapters.add_head("a", gw.heads.Classification(labels=2))
    adapters.save("a", tmp_path / "a")
    found = inspect(tmp_path / "a")
    model = load_model(found, str(made / "model"))
    assert isinstance(model, gw.ModelWithHeads)
    with pytest.raises(CheckpointError, match=r"--no-heads|head"):
        convert(found, tmp_path / "out", "peft", model)
    assert not (tmp_path / "out").exists()
    plain = load_model(found, str(made / "model"), heads=False)
    assert convert(found, tmp_path / "out", "peft", plain, heads=False).difference <= 1e-5


def test_rows_and_positions_that_a_composition_needs(saved: Path, tmp_path: Path) -> None:
    adapters = gw.attach(bert())
    for name in ("mrpc", "rte"):
        adapters.load(saved / name)
    for number, block in enumerate(
        (gw.BatchSplit("mrpc", "rte", batch_sizes=[3, 4]), gw.Split("mrpc", "rte", splits=[2, 7]))
    ):
        adapters.save(block, tmp_path / f"in{number}")
        convert(inspect(tmp_path / f"in{number}"), tmp_path / f"out{number}", "adapterhub", bert())


def test_the_base_is_the_one_that_the_file_names(made: Path, saved: Path, tmp_path: Path) -> None:
    import json

    shutil.copytree(saved / "sst2-peft", tmp_path / "a")
    path = tmp_path / "a" / "adapter_config.json"
    data = json.loads(path.read_text())
    for name, message in ((None, "does not say which base"), ("someone/nowhere", "is not downloaded: give --model")):
        path.write_text(json.dumps({**data, "base_model_name_or_path": name}))
        with pytest.raises(CheckpointError, match=message):
            load_model(inspect(tmp_path / "a"), None)
    path.write_text(json.dumps({**data, "base_model_name_or_path": str(made / "model")}))
    assert isinstance(load_model(inspect(tmp_path / "a"), None), hf.BertForSequenceClassification)


def test_in_a_run_the_base_is_beside_its_recipe(made: Path, saved: Path, tmp_path: Path) -> None:
    import json

    from tests.support.saved_adapters import make_run

    run = make_run(tmp_path / "run", saved / "mrpc")
    (run / ".root").write_text(json.dumps({"root": "..", "was": str(made), "bases": ["model"]}))
    found = inspect(run / "units" / "adapter" / "mrpc" / "0" / "adapter")
    assert load_model(found, None).config.hidden_size == SIZES["hidden_size"]
