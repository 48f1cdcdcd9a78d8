"""Many pictures on many machines, by Ray Data. Knows what a folder and a table are, and leaves the
pictures to `pictures.py`.

1. An output is written beside its place and renamed, so what is there is whole.
2. What is there is not made again, unless `force` says so. So the same call goes on where it
   stopped.
3. The same input and options give the same bytes on any worker. So it does no harm if Ray gives a
   dead worker's pictures to another one, even those that were done.
4. A bad input is a row with an error in the table, and the others are done.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from uqdm import atomic, cpus, files, library, quality
from uqdm.bulk.pictures import BATCH, Decoder, Encoder, Made, Named, described, failure
from uqdm.errors import OutputError, UqdmError

TABLE = "pictures.parquet"
COLUMNS = ("path", "bytes", "width", "height", "bpp", "error")
PSNR = "psnr_"  # what the name of a column of decibels begins with
RETRIES = 3  # of work whose worker died
BLOCK = 64  # inputs that Ray reads and hands out together, at most
Advance = Callable[[int, int], None]  # inputs that are over, and all of them; 0 where that is not known


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of the inputs: how many were `done` now, `skipped` because they were done
    already, and `failed`. `table` is a Parquet file with a row for each.

    Its columns are `path`, `bytes` (of the .uqdm file), `width`, `height`, `bpp` and `error`, which
    is "" where there is none.
    """

    done: int
    skipped: int
    failed: int
    table: Path

    def errors(self) -> Iterator[tuple[str, str]]:
        """Path and error of each input that failed, from the table."""
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(self.table).iter_batches(columns=["path", "error"]):
            for row in batch.to_pylist():
                if row["error"]:
                    yield row["path"], row["error"]

    def means(self) -> dict[str, float]:
        """Means of `bpp` and of the columns of PSNR, over the pictures that have them. An infinite
        PSNR counts as `quality.CAP`.
        """
        import pyarrow.compute
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(self.table)
        table = table.filter(pyarrow.compute.equal(table["error"], ""))
        found = {}
        for name in table.column_names:
            if name == "bpp" or name.startswith(PSNR):
                values = table[name]
                if name != "bpp":
                    values = pyarrow.compute.min_element_wise(values, quality.CAP, skip_nulls=False)
                found[name] = pyarrow.compute.mean(values).as_py()
        return {name: mean for name, mean in found.items() if mean is not None}


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where the work runs. `address` is a Ray cluster's ("auto", "ray://host:10001"); by default
    Ray runs on this machine as long as the call lasts, or it is the one that is connected already.

    `actors` workers, each with `cpus` processors (threads of the network) and, if it is given,
    `memory` bytes; by default as many as the cluster has processors for, less one where a Dataset
    is given, which reads and writes beside them.
    """

    address: str | None = None
    actors: int | None = None
    cpus: int = 1
    memory: int | None = None


def compress(
    source: Any,
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = library.DEFAULT,
    max_pixels: int | None = None,
    force: bool = False,
    cluster: Cluster | None = None,
    progress: Advance | None = None,
    **options: Any,
) -> Summary:
    """Pictures to `.uqdm` files in the folder `out`, with a table of them, `pictures.parquet`.

    `source`: a folder, with its sub-folders; a list of picture files; or a `ray.data.Dataset` with
    the columns `path` and `bytes`. `out` has the same sub-folders (those of a Dataset's paths); all
    workers must be able to write there. `options`: `mode`, `seed`, `convert`, `batch` and what a
    file is to reach (`step`, `bpp`, `target_size`, `psnr`, `max_error`), see `Codec.compress` and
    `files.read`. `force`: make again what is there.

    Raises `UqdmError` where there is nothing to do or `out` cannot be made.
    """
    cluster = cluster or Cluster()
    begin = _encoder(model, max_pixels, cluster, options)
    return run_task(source, Task(begin, Path(out).resolve(), ".uqdm", True, force), files.READABLE, cluster, progress)


def decompress(
    source: Any,
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    suffix: str = ".png",
    max_pixels: int | None = None,
    force: bool = False,
    cluster: Cluster | None = None,
    progress: Advance | None = None,
    **options: Any,
) -> Summary:
    """`.uqdm` files to pictures in the folder `out`; see `compress`.

    `model`: by default each file's own, which the workers look for where they run. `suffix`: the
    pictures' format. `options`: `lossy`, `batch`, and those of `Codec.decode_many`, also for the
    beginning to decode.
    """
    cluster = cluster or Cluster()
    begin = _decoder(model, max_pixels, cluster, {"suffix": suffix, **options})
    return run_task(source, Task(begin, Path(out).resolve(), suffix, False, force), {".uqdm"}, cluster, progress)


def compressed(
    dataset: Any,
    *,
    model: str | os.PathLike[str] = library.DEFAULT,
    max_pixels: int | None = None,
    cluster: Cluster | None = None,
    **options: Any,
) -> Any:
    """A `ray.data.Dataset` of `.uqdm` files from one of pictures, lazily, without any file: columns
    `path` and `bytes` in, those of the table and `data` out.

    `data` are the bytes of the file, None where there is an error. For the rest see `compress`.
    """
    cluster = cluster or Cluster()
    return _mapped(dataset, Converter, _encoder(model, max_pixels, cluster, options), _with_room(cluster), BATCH)


def decompressed(
    dataset: Any,
    *,
    model: str | os.PathLike[str] | None = None,
    suffix: str = ".png",
    max_pixels: int | None = None,
    cluster: Cluster | None = None,
    **options: Any,
) -> Any:
    """A `ray.data.Dataset` of pictures from one of `.uqdm` files; see `compressed` and
    `decompress`.
    """
    cluster = cluster or Cluster()
    begin = _decoder(model, max_pixels, cluster, {"suffix": suffix, **options})
    return _mapped(dataset, Converter, begin, _with_room(cluster), BATCH)


def _encoder(
    model: str | os.PathLike[str], max_pixels: int | None, cluster: Cluster, options: dict[str, Any]
) -> "Begin":
    codec = library.load(model, threads=cluster.cpus, max_pixels=max_pixels)
    Encoder(codec, **options)  # a wrong option says so here
    return functools.partial(Encoder, codec, **options)


def _decoder(
    model: str | os.PathLike[str] | None, max_pixels: int | None, cluster: Cluster, options: dict[str, Any]
) -> "Begin":
    machine: dict[str, Any] = {"threads": cluster.cpus, "max_pixels": max_pixels}
    codec = None if model is None else library.load(model, **machine)
    Decoder(codec, machine=machine, **options)  # a wrong option says so here
    return functools.partial(Decoder, codec, machine=machine, **options)


Begin = Callable[[], Callable[[Iterable[Named]], Iterator[Made]]]  # makes what turns bytes into bytes


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker does with files. `root`: what a path is below."""

    begin: Begin
    out: Path
    suffix: str
    compresses: bool
    force: bool
    root: str = ""

    def target(self, path: str) -> Path:
        """Where the output of an input stands. Raises `OutputError` if that is not below `out`."""
        below = os.path.relpath(path, self.root) if self.root else path.split("://")[-1].lstrip("/")
        found = self.out / Path(below).with_suffix(self.suffix)
        if not Path(os.path.normpath(found)).is_relative_to(self.out):
            raise OutputError(f"{path}: its output would stand outside {self.out}")
        return found

    def standing(self, path: str, data: Callable[[], bytes]) -> Made | None:
        """The row of an input whose output is there already, else None. `data` reads the input."""
        try:
            target = self.target(path)
            if self.force or not target.is_file():
                return None
            return described(path, target.read_bytes() if self.compresses else data())
        except (UqdmError, OSError) as error:
            return failure(path, error)

    def written(self, made: Made) -> Made:
        """Writes an output, and gives its row."""
        if made.data is None:
            return made
        try:
            target = self.target(made.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(target, made.data)
        except (UqdmError, OSError) as error:
            return failure(made.path, error)
        return dataclasses.replace(made, data=None)


class Worker:
    """A worker of Ray: tables with `path` and `bytes` in, tables of COLUMNS and `skipped` out. It
    makes its codec once.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._work = task, task.begin()

    def __call__(self, table: Any) -> Any:
        paths, data = table["path"].to_pylist(), table["bytes"].to_pylist()
        there = {path: self._task.standing(path, functools.partial(bytes, one)) for path, one in zip(paths, data)}
        fresh = self._work((path, one) for path, one in zip(paths, data) if there[path] is None)
        rows = [(made, not made.error) for made in there.values() if made is not None]
        return table_of([*rows, *((self._task.written(made), False) for made in fresh)])


class Converter:
    """A worker of Ray without files: tables with `path` and `bytes` in, tables of COLUMNS and
    `data` out.
    """

    def __init__(self, begin: Begin) -> None:
        self._work = begin()

    def __call__(self, table: Any) -> Any:
        import pyarrow

        made = list(self._work(zip(table["path"].to_pylist(), table["bytes"].to_pylist())))
        data = pyarrow.array([one.data for one in made], pyarrow.large_binary())
        return table_of([(one, False) for one in made]).select(COLUMNS).append_column("data", data)


def column(bpp: float) -> str:
    """The name of the column of decibels at so many bits per pixel."""
    return f"{PSNR}{bpp:g}"


def table_of(rows: list[tuple[Made, bool]], rates: Sequence[float] = ()) -> Any:
    """A table of COLUMNS, the PSNR at `rates`, and `skipped`."""
    import pyarrow

    types = (pyarrow.string(), pyarrow.int64(), pyarrow.int64(), pyarrow.int64(), pyarrow.float64(), pyarrow.string())
    decibels = [column(bpp) for bpp in rates]
    figures = [(name, pyarrow.float64()) for name in decibels]
    schema = pyarrow.schema([*zip(COLUMNS, types), *figures, ("skipped", pyarrow.bool_())])
    values = [
        {name: getattr(made, name) for name in COLUMNS} | dict(zip(decibels, made.psnr)) | {"skipped": skipped}
        for made, skipped in rows
    ]
    return pyarrow.Table.from_pylist(values, schema=schema)


# --- inputs


def listed(source: Any, suffixes: Iterable[str]) -> tuple[list[str], str]:
    """The absolute paths of a folder's or a list's inputs, and the folder that they are below."""
    if isinstance(source, str | os.PathLike):
        root = os.path.abspath(source)
        if not os.path.isdir(root):
            raise UqdmError(f"{os.fspath(source)} is no folder; a list of files, or a ray.data.Dataset, can be given")
        wanted = set(suffixes)
        found = sorted(
            os.path.join(where, name)
            for where, _, names in os.walk(root)
            for name in names
            if os.path.splitext(name)[1].lower() in wanted
        )
        if not found:
            raise UqdmError(f"{os.fspath(source)} holds no files with the suffixes {', '.join(sorted(wanted))}")
        return found, root
    found = list(dict.fromkeys(os.path.abspath(path) for path in source))
    if not found:
        raise UqdmError("there are no inputs: the list is empty")
    return found, os.path.commonpath([os.path.dirname(path) for path in found])


def _sorted_out(paths: list[str], task: Task) -> tuple[list[str], list[tuple[Made, bool]]]:
    """The inputs that are to be done, and the rows of the others."""
    targets = Counter(str(task.target(path)) for path in paths)
    todo: list[str] = []
    rows: list[tuple[Made, bool]] = []
    for path in paths:
        if targets[target := str(task.target(path))] > 1:
            rows.append((failure(path, f"several inputs would become {target}: give them different names"), False))
        elif (unread := unreadable(path)) is not None:
            rows.append((unread, False))
        elif (made := task.standing(path, Path(path).read_bytes)) is not None:
            rows.append((made, not made.error))
        else:
            todo.append(path)
    return todo, rows


def unreadable(path: str) -> Made | None:
    """The row of a file that cannot be read, else None."""
    there = os.access(path, os.R_OK) and os.path.isfile(path)
    return None if there else failure(path, f"{path} cannot be read")


# --- the work


def run_task(source: Any, task: Task, suffixes: Iterable[str], cluster: Cluster, progress: Advance | None) -> Summary:
    make_folder(task.out)
    if hasattr(source, "map_batches"):
        return recorded(task.out, table_of([]), from_dataset(source, Worker, task, cluster), 0, progress)
    paths, root = listed(source, suffixes)
    task = dataclasses.replace(task, root=root)
    todo, rows = _sorted_out(paths, task)
    tables = from_files(todo, Worker, task, cluster)
    return recorded(task.out, table_of(rows), tables, len(paths), progress)


def make_folder(out: Path) -> None:
    """Raises `OutputError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {out} cannot be made: {error.strerror}") from error


def from_files(paths: list[str], kind: type, task: Any, cluster: Cluster, rates: Sequence[float] = ()) -> Iterator[Any]:
    """The tables of workers of a `kind` for these files. A file that has no row in them, because it
    is gone or its workers died, gets one that says so.
    """
    if not paths:
        return
    import ray.data

    with _connected(cluster):
        actors = min(_actors(cluster), len(paths))
        read = ray.data.read_binary_files(
            paths,
            include_paths=True,
            ignore_missing_paths=True,
            override_num_blocks=min(len(paths), max(4 * actors, -(-len(paths) // BLOCK))),
            num_cpus=0,  # reading waits for disks, and must not wait for the workers' processors
        )
        rows = _mapped(read, kind, task, dataclasses.replace(cluster, actors=actors), None)
        rows.context.max_errored_blocks = -1
        left = set(paths)
        for table in _tables(rows):
            left.difference_update(table["path"].to_pylist())
            yield table
    if left:
        said = "cannot be read any more, or the workers that had it or its neighbours ended; Ray's messages say why"
        yield table_of([(failure(path, f"{path} {said}"), False) for path in sorted(left)], rates)


def from_dataset(dataset: Any, kind: type, task: Any, cluster: Cluster) -> Iterator[Any]:
    """The same for a Dataset. What is lost cannot be named, so nothing may be lost."""
    with _connected(cluster):
        yield from _tables(_mapped(dataset, kind, task, _with_room(cluster), BATCH))


def _mapped(dataset: Any, kind: type, task: Any, cluster: Cluster, batch: int | None) -> Any:
    """The Dataset of the rows of workers of a `kind`, each made of the `task`. `batch`: inputs that
    a worker gets at once, by default blocks as they are.
    """
    import ray.data

    return dataset.map_batches(
        kind,
        fn_constructor_args=(task,),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=cluster.actors),
        num_cpus=cluster.cpus,
        max_task_retries=RETRIES,
        **({} if cluster.memory is None else {"memory": cluster.memory}),
    )


def _tables(rows: Any) -> Iterator[Any]:
    """A Dataset's tables, as they come."""
    rows.context.enable_progress_bars = False
    return iter(rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    """Ray, for as long as it is needed; as it is, if it runs already."""
    import ray

    if ray.is_initialized():
        yield
        return
    if cluster.address is None:
        ray.init(num_cpus=cpus.available(), include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    else:
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _actors(cluster: Cluster) -> int:
    import ray

    return cluster.actors or max(1, int(ray.cluster_resources().get("CPU", 1)) // cluster.cpus)


def _with_room(cluster: Cluster) -> Cluster:
    """The same, by default with a processor left for what else a Dataset does: actors that take all
    of them would wait for ever for what comes from tasks before them.
    """
    import ray

    processors = int(ray.cluster_resources().get("CPU", 1))
    return dataclasses.replace(cluster, actors=cluster.actors or max(1, (processors - 1) // cluster.cpus))


def recorded(
    out: Path,
    first: Any,
    tables: Iterable[Any],
    total: int,
    progress: Advance | None,
    about: dict[bytes, bytes] | None = None,
) -> Summary:
    """Writes the table in the folder `out` as its rows come, and counts them. `first`: those that
    are there already. `about`: what the table says of itself.
    """
    import pyarrow.compute
    import pyarrow.parquet

    wanted = first.drop_columns("skipped").schema.with_metadata(about)
    done = skipped = failed = 0
    with atomic.beside(out / TABLE) as name, pyarrow.parquet.ParquetWriter(name, wanted) as file:
        for table in itertools.chain([first], tables):
            file.write_table(table.select(wanted.names).cast(wanted))
            bad = pyarrow.compute.sum(pyarrow.compute.not_equal(table["error"], "")).as_py() or 0
            old = pyarrow.compute.sum(table["skipped"]).as_py() or 0
            done, skipped, failed = done + table.num_rows - bad - old, skipped + old, failed + bad
            if progress is not None:
                progress(done + skipped + failed, total)
    for folder in {place.parent for place in out.rglob(f"{atomic.MARK}*.tmp")}:
        atomic.sweep(folder)  # what a worker that was killed was writing
    return Summary(done, skipped, failed, out / TABLE)
