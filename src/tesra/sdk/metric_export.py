"""All points of a run into one file: CSV, or Parquet with the extra ``tesra[parquet]``.

The file appears whole or not at all; memory is bounded, whatever the run has logged.
"""

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tesra.kit.errors import Invalid, NotFound, Unavailable
from tesra.wire.metrics import MetricPoint

FIELDS = ("name", "rank", "step", "time", "value", "attempt", "origin")
ROW_GROUP = 65_536


class TargetInvalid(Invalid):
    """An export's file ends with .csv or .parquet."""


class FolderMissing(NotFound):
    """The folder does not exist."""


class ParquetMissing(Unavailable):
    """Parquet needs the library pyarrow, which is not installed here."""


def check_target(target: Path) -> None:
    """Refuse what can't be written before anything is asked of the server."""
    if target.suffix.lower() not in _WRITERS:
        what = f"'{target.suffix}'" if target.suffix else "no ending"
        raise TargetInvalid(
            f"{target} has {what}: an export is FILE.csv or FILE.parquet.",
            way_out="Name the file so.",
        )
    if target.is_dir():
        raise TargetInvalid(f"{target} is a folder.", way_out="Name a file in it.")
    if not target.absolute().parent.is_dir():
        raise FolderMissing(
            f"There is no folder {target.absolute().parent}.", way_out="Make it first."
        )
    if target.suffix.lower() == ".parquet":
        _pyarrow()


def export_points(points: Iterable[MetricPoint], target: Path) -> int:
    """Write them all; answers how many. What was there before is replaced at the end."""
    check_target(target)
    handle, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")
    os.close(handle)
    part = Path(name)
    try:
        count = _WRITERS[target.suffix.lower()](points, part)
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_csv(points: Iterable[MetricPoint], path: Path) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for one in points:
            writer.writerow(
                (one.name, one.rank, one.step, one.time, one.value, one.attempt, one.origin)
            )
            count += 1
    return count


def _write_parquet(points: Iterable[MetricPoint], path: Path) -> int:
    pyarrow, parquet = _pyarrow()
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    kinds = (
        text,
        pyarrow.int32(),
        pyarrow.int64(),
        pyarrow.timestamp("us", tz="UTC"),
        pyarrow.float64(),
        pyarrow.int32(),
        text,
    )
    schema = pyarrow.schema(list(zip(FIELDS, kinds, strict=True)))
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for some in _groups(points):
            columns = (
                [one.name for one in some],
                [one.rank for one in some],
                [one.step for one in some],
                [round(one.time * 1e6) for one in some],
                [float(one.value) for one in some],
                [one.attempt for one in some],
                [one.origin for one in some],
            )
            arrays = [
                pyarrow.array(column, type=kind)
                for column, kind in zip(columns, kinds, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(some)
    return count


def _groups(points: Iterable[MetricPoint]) -> Iterator[list[MetricPoint]]:
    rest = iter(points)
    while some := list(islice(rest, ROW_GROUP)):
        yield some


def _pyarrow() -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ParquetMissing(
            way_out="Install it with `pip install 'tesra[parquet]'`, or export FILE.csv."
        ) from error
    return pyarrow, parquet


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_WRITERS: dict[str, Callable[[Iterable[MetricPoint], Path], int]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
