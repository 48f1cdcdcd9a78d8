"""Many pictures by Ray Data, on a cluster of this machine: the files of one process, a table, and
nothing lost with a worker.
"""

import importlib.util
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Run, failed, picture, pixels

import uqdm
from uqdm import bulk
from uqdm.bulk import Evaluator, clusters
from uqdm.bulk.pictures import Made
from uqdm.errors import UqdmError

ONE = clusters.Cluster(actors=1)  # a worker's start takes longer than all its pictures here
pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


def rows(folder: str) -> dict[str, dict[str, Any]]:
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(Path(folder) / "pictures.parquet").to_pylist()
    assert all(list(row) == ["path", "bytes", "width", "height", "bpp", "error"] for row in found)
    by_path = {row["path"]: row for row in found}
    assert len(by_path) == len(found)
    return by_path


def made(folder: str, suffix: str = ".uqdm") -> dict[str, bytes]:
    where = Path(folder)
    assert not list(where.rglob(".uqdm-*"))
    return {str(path.relative_to(where)): path.read_bytes() for path in where.rglob(f"*{suffix}")}


def test_a_folder_becomes_the_files_of_one_process_and_a_table_and_comes_back(run: Run, toy: Path) -> None:
    arrays = {f"{'x/' * (i % 2)}p{i}": picture(f"in/{'x/' * (i % 2)}p{i}.png", 20 + i, 24, seed=i) for i in range(9)}
    Path("in/bad.png").write_text("not a picture")
    picture("in/twice.png")
    picture("in/twice.bmp")
    found = bulk.compress("in", "out", model=toy / "photo")
    assert (found.done, found.skipped, found.failed) == (9, 0, 3)
    assert dict(found.errors()).keys() == {
        os.path.abspath(f"in/{name}") for name in ("bad.png", "twice.png", "twice.bmp")
    }
    run("compress", "in", "one", "--recursive", "--jobs", 1, "--model", toy / "photo")
    assert made("out") == made("one")
    table = rows("out")
    assert len(table) == 12
    for name in arrays:
        row = table[os.path.abspath(f"in/{name}.png")]
        size = Path(f"out/{name}.uqdm").stat().st_size
        assert (row["bytes"], row["height"], row["width"], row["error"]) == (size, *arrays[name].shape[:2], "")
        assert row["bpp"] == 8 * size / (row["width"] * row["height"])
    back = bulk.decompress("out", "back", model=toy / "photo", cluster=ONE)
    assert (back.done, back.failed) == (9, 0)
    run("decompress", "one", "alone", "--recursive", "--jobs", 1)
    assert made("back", ".png") == made("alone", ".png")


@pytest.mark.slow
def test_the_same_call_goes_on_where_it_stopped(run: Run, toy: Path) -> None:
    for i in range(6):
        picture(f"in/p{i}.png", seed=i)
    bulk.compress("in", "out", model=toy / "photo", cluster=ONE)
    first, table = made("out"), rows("out")
    for name in ("p1.uqdm", "p4.uqdm", "pictures.parquet"):
        Path("out", name).unlink()
    Path("out/p2.uqdm").touch()
    before = Path("out/p0.uqdm").stat().st_mtime_ns
    found = bulk.compress("in", "out", model=toy / "photo", cluster=ONE)
    assert (found.done, found.skipped) == (2, 4)
    assert Path("out/p0.uqdm").stat().st_mtime_ns == before
    assert made("out") == first
    assert rows("out") == table
    assert bulk.compress("in", "out", model=toy / "photo", force=True, cluster=ONE).done == 6


def test_a_killed_worker_takes_nothing_with_it(run: Run, toy: Path) -> None:
    for i in range(200):
        picture(f"in/p{i:03}.png", 96, 96, seed=i)
    killed: list[tuple[int, int]] = []

    def kill(over: int, total: int) -> None:
        if over and not killed:
            victim = workers()[0]
            os.kill(victim, signal.SIGKILL)
            killed.append((victim, over))

    found = bulk.compress("in", "out", model=toy / "photo", progress=kill)
    assert killed
    assert killed[0][1] < 200
    assert (found.done + found.skipped, found.failed) == (200, 0)
    assert len(rows("out")) == 200
    run("compress", "in", "one", "--jobs", 1, "--model", toy / "photo")
    assert made("out") == made("one")


@pytest.mark.slow
def test_what_kills_every_worker_is_a_row_with_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    for i in range(24):
        (tmp_path / f"{i}.png").write_bytes(b"x" * i)

    def begin() -> Any:
        def work(some: Any) -> Any:
            for path, data in some:
                if len(data) == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield Made(path, data, len(data), 1, 1)

        return work

    task = clusters.Task(begin, tmp_path / "out", ".uqdm", False, False, str(tmp_path))
    found = clusters.run_task(tmp_path, task, {".png"}, clusters.Cluster(), None)
    errors = dict(found.errors())
    assert str(tmp_path / "5.png") in errors
    assert found.done + found.failed == 24
    assert found.failed == len(errors) <= 3  # it and those of its block
    assert "workers" in errors[str(tmp_path / "5.png")]


def workers() -> list[int]:
    """Processes of this test's own cluster that have a codec."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words, parent = (place / "cmdline").read_bytes(), parent_of(int(place.name))
            if b"MapBatches(Worker)" in words and parent_of(parent) == os.getpid():
                found.append(int(place.name))
        except OSError:  # it has ended in between
            continue
    return found


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_data_set_of_paths_and_bytes_is_taken_too(run: Run, toy: Path) -> None:
    import ray.data

    names = {f"bucket/x/p{i}.png": picture(f"in/p{i}.png", seed=i) for i in range(3)}
    items = [{"path": f"s3://{name}", "bytes": Path("in", Path(name).name).read_bytes()} for name in names]
    items.append({"path": "s3://bucket/../../../away.png", "bytes": items[0]["bytes"]})
    found = bulk.compress(ray.data.from_items(items), "out", model=toy / "photo")
    assert (found.done, found.failed) == (3, 1)
    assert set(made("out")) == {name.replace(".png", ".uqdm") for name in names}
    assert "outside" in rows("out")["s3://bucket/../../../away.png"]["error"]


@pytest.mark.slow
def test_shards_become_shards_without_a_file_for_each_picture(run: Run, toy: Path) -> None:
    import ray.data

    arrays = {f"p{i}": picture(f"in/p{i}.png", seed=i) for i in range(3)}
    with tarfile.open("shard.tar", "w") as shard:
        for name in arrays:
            shard.add(f"in/{name}.png", f"{name}.png")
    pictures = ray.data.read_webdataset(os.path.abspath("shard.tar"), decoder=None).map(
        lambda row: {"path": row["__key__"], "bytes": row["png"]}
    )
    made = bulk.compressed(pictures, model=toy / "photo")
    made.map(lambda row: {"__key__": row["path"], "uqdm": row["data"]}).write_webdataset(os.path.abspath("out"))
    found = {}
    for path in Path("out").glob("*.tar"):
        with tarfile.open(path) as shard:
            found |= {one.name: shard.extractfile(one).read() for one in shard}  # type: ignore[union-attr]
    run("compress", "in", "one", "--jobs", 1, "--model", toy / "photo")
    assert found == {path.name: path.read_bytes() for path in Path("one").iterdir()}
    files = [{"path": name, "bytes": data} for name, data in found.items()] + [{"path": "bad", "bytes": b"UQDM"}]
    back = {row["path"]: row for row in bulk.decompressed(ray.data.from_items(files), model=toy / "photo").take_all()}
    assert back.pop("bad")["data"] is None
    assert all((pixels(row["data"]) == arrays[Path(name).stem]).all() for name, row in back.items())
    assert len(back) == 3


def test_figures_are_kept_from_an_interruption_on_and_are_those_of_one_process(run: Run, toy: Path) -> None:
    import pyarrow.parquet
    import ray.data

    for i in range(12):
        picture(f"in/{'x/' * (i % 2)}p{i}.png", 20 + i, 24, seed=i)
    Path("in/bad.png").write_text("not a picture")

    def interrupt(over: int, total: int) -> None:
        if over:
            raise KeyboardInterrupt

    how: Any = {"model": toy / "photo", "rates": (3, 100), "cluster": ONE}
    with pytest.raises(KeyboardInterrupt):
        bulk.evaluate("in", "out", progress=interrupt, **how)
    assert not Path("out/pictures.parquet").exists()
    found = bulk.evaluate("in", "out", **how)
    assert found.skipped > 0
    assert (found.done + found.skipped, found.failed) == (12, 1)
    assert [path.name for path in Path("out").iterdir()] == ["pictures.parquet"]
    table = {row.pop("path"): row for row in pyarrow.parquet.read_table(found.table).to_pylist()}
    assert len(table) == 13
    one = Evaluator(uqdm.load(toy / "photo", threads=1), (3, 100))
    for made in one((os.path.abspath(path), path.read_bytes()) for path in Path("in").rglob("*.png")):
        row = table[made.path]
        assert row == {
            **{name: getattr(made, name) for name in ("bytes", "width", "height", "bpp", "error")},
            **dict(zip(("psnr_3", "psnr_100"), made.psnr or (None, None))),
        }
    assert set(found.means()) == {"bpp", "psnr_3", "psnr_100"}
    with pytest.raises(UqdmError, match="give another folder"):
        bulk.evaluate("in", "out", **{**how, "rates": (2,)})
    pictures = [{"path": path, "bytes": Path(path).read_bytes()} for path in table]
    again = bulk.evaluate(ray.data.from_items(pictures), "out", **how)
    assert (again.done, again.skipped, again.failed) == (0, 12, 1)
    result = run("bulk", "evaluate", "in", "out", "--bpp", 2, 4, "--force", "--model", toy / "photo")
    assert result.exit_code == 1
    assert "12 done, 0 skipped, 1 failed" in result.stderr
    assert "dB at 2" in result.stdout


def test_nothing_to_do_is_an_error(run: Run, toy: Path) -> None:
    Path("in").mkdir()
    for source in ("in", "nowhere", []):
        with pytest.raises(UqdmError):
            bulk.compress(source, "out", model=toy / "photo")


def test_the_command_names_what_failed_and_counts(run: Run, toy: Path) -> None:
    picture("in/a.png")
    Path("in/b.png").write_text("not a picture")
    result = run("bulk", "compress", "in", "out", "--model", toy / "photo", "--max-error", 3)
    assert result.exit_code == 1
    assert "in/b.png" in result.stderr
    assert "1 done, 0 skipped, 1 failed" in result.stderr
    run("compress", "in/a.png", "one.uqdm", "--model", toy / "photo", "--max-error", 3)
    assert made("out") == {"a.uqdm": Path("one.uqdm").read_bytes()}
    result = run("bulk", "decompress", "out", "back", "--step", 1, "--suffix", ".jpg", "--model", toy / "photo")
    assert result.exit_code == 0, result.output
    assert list(made("back", ".jpg")) == ["a.jpg"]
    failed(run("bulk", "compress", "in", "out", "--bpp", 1, "--step", 1), 2, "cannot be used together")
