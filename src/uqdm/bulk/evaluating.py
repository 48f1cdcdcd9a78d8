"""Figures of many pictures, by Ray Data: bytes without loss, and PSNR at rates. Knows no codec's
inside and makes no file of a picture.

1. A row is kept as soon as it is there: in PARTS, a file every few seconds, until the table is
   written. So the same call goes on where it stopped.
2. A table says which model and which rates it is of. Rows of others are never mixed with it.
3. A picture that cannot be read, or does not come back from its file, is a row with an error, and
   is tried again by the next call.
"""

import dataclasses
import functools
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from uqdm import atomic, files, library
from uqdm.bulk import clusters
from uqdm.bulk.clusters import TABLE, Advance, Begin, Cluster, Summary, column
from uqdm.bulk.pictures import Evaluator
from uqdm.errors import OutputError

RATES = (0.25, 0.5, 1.0, 2.0)  # bits per pixel
PARTS = "parts"  # the folder of rows whose table is not written yet
EVERY = 10.0  # seconds after which they are written
ABOUT = b"uqdm"  # where a table says what it is of


def evaluate(
    source: Any,
    out: str | os.PathLike[str],
    *,
    rates: Sequence[float] = RATES,
    model: str | os.PathLike[str] = library.DEFAULT,
    max_pixels: int | None = None,
    force: bool = False,
    cluster: Cluster | None = None,
    progress: Advance | None = None,
    **options: Any,
) -> Summary:
    """A table of pictures in the folder `out`, `pictures.parquet`: `path`, `bytes`, `width`,
    `height`, `bpp` (without loss), `error`, and for each of `rates`, in bits per pixel, a column
    such as `psnr_0.5`, in decibels.

    `source`: see `compress`. `options`: `mode`, `seed`, `convert` and `batch`; see `Evaluator`,
    which says too what a PSNR is. Every file is decoded whole once, and compared. `force`: begin
    anew. Only the machine of the call writes to `out`.

    Raises `UqdmError` where there is nothing to do, `out` cannot be made, or its table is of other
    settings.
    """
    cluster, out = cluster or Cluster(), Path(out).resolve()
    codec = library.load(model, threads=cluster.cpus, max_pixels=max_pixels)
    Evaluator(codec, rates, **options)  # a wrong option says so here
    settings = {"model": codec.fingerprint, "figures": [column(bpp) for bpp in rates]}
    settings |= {"mode": options.get("mode") or codec.modes[0], "seed": options.get("seed", 0)}
    about = {ABOUT: json.dumps(settings).encode()}
    is_dataset = hasattr(source, "map_batches")
    paths = [] if is_dataset else clusters.listed(source, files.READABLE)[0]
    clusters.make_folder(out)
    if force:
        shutil.rmtree(out / PARTS, ignore_errors=True)
    old = clusters.table_of([], rates) if force else _there(out, clusters.table_of([], rates), about)
    known = frozenset(old["path"].to_pylist())
    begin = functools.partial(Evaluator, codec, tuple(rates), **options)
    task = _EvaluationTask(begin, tuple(rates), known)
    if is_dataset:
        tables = clusters.from_dataset(source, EvaluationWorker, task, cluster)
    else:
        import pyarrow

        old = old.filter(pyarrow.compute.is_in(old["path"], pyarrow.array(paths, pyarrow.string())))
        left = [path for path in paths if path not in known]
        bad = {path: made for path in left if (made := clusters.unreadable(path)) is not None}
        old = pyarrow.concat_tables([old, clusters.table_of([(made, False) for made in bad.values()], rates)])
        todo = [path for path in left if path not in bad]
        # What is known already is left out here, and need not travel.
        task = dataclasses.replace(task, known=frozenset())
        tables = clusters.from_files(todo, EvaluationWorker, task, cluster, rates)
    found = clusters.recorded(out, old, _kept(tables, out / PARTS, about), len(paths), progress, about)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    return found


@dataclasses.dataclass(frozen=True)
class _EvaluationTask:
    """What a worker does. `known`: paths that have their row."""

    begin: Begin
    rates: tuple[float, ...]
    known: frozenset[str]


class EvaluationWorker:
    """A worker of Ray: tables with `path` and `bytes` in, tables of figures out. It makes its codec
    once.
    """

    def __init__(self, task: _EvaluationTask) -> None:
        self._task, self._work = task, task.begin()

    def __call__(self, table: Any) -> Any:
        given = zip(table["path"].to_pylist(), table["bytes"].to_pylist())
        made = self._work((path, data) for path, data in given if path not in self._task.known)
        return clusters.table_of([(one, False) for one in made], self._task.rates)


def _there(out: Path, empty: Any, about: dict[bytes, bytes]) -> Any:
    """The rows without an error that earlier calls left, each path once, as skipped ones. `empty`:
    a table of their columns. Raises `OutputError` where they are of other settings.
    """
    import pyarrow
    import pyarrow.parquet

    found = [empty]
    for path in [*sorted((out / PARTS).glob("*.parquet")), *[out / TABLE] * (out / TABLE).is_file()]:
        table = pyarrow.parquet.read_table(path)
        said = (table.schema.metadata or {}).get(ABOUT)
        if said != about[ABOUT]:
            what = f"of {said.decode()}" if said else "of another command"
            raise OutputError(
                f"{path} is {what}, and this call is of {about[ABOUT].decode()}: give another folder, or force"
            )
        table = table.filter(pyarrow.compute.equal(table["error"], ""))
        found.append(table.append_column("skipped", pyarrow.array([True] * len(table), pyarrow.bool_())))
    rows = pyarrow.concat_tables([table.cast(empty.schema) for table in found])
    places = {path: i for i, path in enumerate(rows["path"].to_pylist())}
    return rows.take(pyarrow.array(places.values(), pyarrow.int64()))


def _kept(tables: Iterable[Any], folder: Path, about: dict[bytes, bytes]) -> Iterator[Any]:
    """The same tables. Every few seconds, and where the work ends or is interrupted, those that came
    are written to a file of the folder.
    """
    import pyarrow
    import pyarrow.parquet

    waiting: list[Any] = []

    def write() -> None:
        folder.mkdir(exist_ok=True)
        table = pyarrow.concat_tables(waiting).drop_columns("skipped")
        with atomic.beside(folder / f"{len(list(folder.glob('*.parquet'))):06}.parquet") as name:
            pyarrow.parquet.write_table(table.replace_schema_metadata(about), name)
        waiting.clear()

    since = time.monotonic()
    try:
        for table in tables:
            waiting.append(table)
            if time.monotonic() - since >= EVERY:
                write()
                since = time.monotonic()
            yield table
    finally:
        if waiting:
            write()
