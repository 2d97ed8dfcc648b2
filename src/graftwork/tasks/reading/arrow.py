"""Rows in Arrow's columns: Parquet, and data sets of the library `datasets`, saved to disk or of the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.options import needed
from graftwork.tasks.reading.text import require_bounded
from graftwork.tasks.rows import Place, Row, Rows

_AT_ONCE = 1000
_FEW = 16  # of Parquet, where a page may say one long text for thousands of rows
_A_ROW = 64  # the fewest bytes of a row


def read_parquet(path: Path) -> Iterator[tuple[Row, Place]]:
    """The rows of a Parquet file, each with its number; a `TaskError` if it is damaged or unpacks to far more than it is."""
    parquet = needed("pyarrow.parquet", "a .parquet file")
    try:
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            packed = path.stat().st_size
            require_bounded(path, packed, sum(g.total_byte_size + _A_ROW * g.num_rows for g in groups))
            rows = bounded_rows(file.iter_batches(batch_size=_FEW), path, packed)
            for number, row in enumerate(rows, 1):
                yield row, Place(str(path), number)
    except TaskError:
        raise
    except Exception as error:  # whatever pyarrow says of a damaged file: its own errors, no UTF-8, dates out of range
        raise TaskError(f"{path} is truncated, damaged or no Parquet ({error}); copy it again") from error


def saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk`` of the library `datasets`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def read_saved(folder: Path) -> dict[str, Any]:
    """The data sets that ``save_to_disk`` has written into a folder, by split; a single one under ``""``."""
    datasets = needed("datasets", f"{folder}, a data set saved to disk,")
    try:
        found = datasets.load_from_disk(str(folder))
        return dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
    except Exception as error:  # a file that is missing, damaged, or of another version
        raise TaskError(
            f"{folder} was saved by datasets and cannot be read by datasets {datasets.__version__} ({error}); save it again"
        ) from error


def rows_of(dataset: Any, source: str, folder: Path | None = None) -> Rows:
    """The rows of a data set of the library `datasets`, as plain values: files that it names are not opened.

    The rows are numbered in ``source``; ``folder`` is that of a data set that was saved to disk.
    """
    tables = dataset.with_format("arrow").iter(batch_size=_AT_ONCE)
    try:
        dataset.data.validate(full=True)  # places outside of a damaged file would end the process
        if folder is None:
            return Rows((row for table in tables for row in table.to_pylist()), source=source)
        packed = sum(file.stat().st_size for file in folder.rglob("*.arrow"))
        return Rows(bounded_rows(tables, folder, packed), source=source)
    except TaskError:
        raise
    except Exception as error:  # as for Parquet
        raise TaskError(f"{source} is truncated or damaged ({error}); save it again") from error


def bounded_rows(tables: Iterable[Any], path: Path, packed: int) -> Iterator[Row]:
    """The rows of tables or batches; a `TaskError` where they become far more than the bytes on disk."""
    size = 0
    for table in tables:
        size += table.nbytes
        require_bounded(path, packed, size)
        yield from table.to_pylist()
