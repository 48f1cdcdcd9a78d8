"""A codec in threads and processes: few threads, the same bytes from each of them, and nothing that
hangs after a fork.
"""

import copy
import dataclasses
import gc
import hashlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph

import uqdm
from uqdm import codec
from uqdm.exact import runtimes as backends
from uqdm.exact.workers import Workers

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc here")
every_backend = pytest.mark.parametrize("backend", backends.available())
SECONDS = 120  # after which something hangs; what is waited for takes a second or two
SIDE = 80  # of pictures that two threads share


def opened(backend: str = "onnxruntime", name: str = "uqdm-light", threads: int = 2) -> codec.Codec:
    if backend not in backends.available():
        pytest.skip(f"{backend} is not installed")
    return uqdm.load(name, backend=backend, threads=threads, coder="plain" if backend == "numpy" else None)


def coded(one: codec.Codec, seed: int = 0, side: int = SIDE) -> str:
    """What a codec makes of a picture, there and back, in few letters."""
    picture = photograph(side, side, seed)
    data = one.compress(picture)
    assert (one.decompress(data) == picture).all()
    return hashlib.sha256(data).hexdigest()


def in_child(work: Callable[[], Any]) -> str:
    """What `work` returns, as text, in a child made by os.fork."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.write(write, str(work()).encode())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            gc.collect()
            os._exit(0)
    os.close(write)
    deadline = time.monotonic() + SECONDS
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.02)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode()


# --- threads


@needs_proc
def test_a_codec_has_no_more_threads_than_it_was_given_and_they_end_with_it() -> None:
    code = """
import os, sys
sys.path.insert(0, {tests!r})
from conftest import photograph
import gc, time, uqdm

def used(threads):
    codec = uqdm.load("uqdm-light", threads=threads, backend="onnxruntime")
    codec.compress(photograph(192, 192))
    return len(os.listdir("/proc/self/task"))

before = used(1)  # what libraries start once
found = [used(threads) - before for threads in (2, 16, 64)]
gc.collect()
deadline = time.monotonic() + 20
while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
    time.sleep(0.05)
print(found, len(os.listdir("/proc/self/task")) - before, sep=";")
"""
    pytest.importorskip("onnxruntime")
    words = [sys.executable, "-c", code.format(tests=str(Path(__file__).parent))]
    run = subprocess.run(words, capture_output=True, text=True, check=True, timeout=SECONDS)
    found, left = run.stdout.split(";")
    more = [int(n) for n in found.strip("[]").split(",")]
    assert all(n < threads for n, threads in zip(more, (2, 16, 64), strict=True)), (
        more
    )  # of 16 each network had 15, so a codec 285
    assert max(more) > 2  # they are used
    assert int(left) <= 0


@every_backend
def test_threads_that_share_a_codec_write_the_same_bytes(backend: str) -> None:
    one = opened(backend)
    expected = [coded(opened(backend, threads=1), seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda seed: coded(one, seed), [0, 1, 2] * 2)) == expected * 2


def test_no_bit_depends_on_the_number_of_threads() -> None:
    pytest.importorskip("onnxruntime")
    pictures = [
        photograph(150, 131),
        photograph(64, 64, 1),
        photograph(64, 64, 2),
        photograph(64, 64, 3),
        photograph(3, 1500),
    ]
    for name in ("nano", "uqdm-light"):
        found = [uqdm.load(name, threads=threads, backend="onnxruntime").compress(pictures) for threads in (1, 2, 7)]
        assert found[0] == found[1] == found[2]


def test_work_is_shared_out_once_each_and_an_error_ends_it() -> None:
    workers, done, lock = Workers(4), [], threading.Lock()

    def work(i: int) -> None:
        with lock:
            done.append(i)
        if i == 30:
            raise KeyError(i)

    workers.each(work, list(range(30)))
    assert sorted(done) == list(range(30))
    with pytest.raises(KeyError, match="30"):
        workers.each(work, list(range(29, 1000)))
    assert len(done) < 1000
    workers.each(work, [])


def test_where_the_system_gives_no_threads_it_is_slower_and_says_so() -> None:
    """A limit of processes, as containers have; ONNX Runtime's own pool waited for ever."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or "onnxruntime" not in backends.available():
        pytest.skip("a limit of processes can be tried by root only, who becomes a user without programs")
    code = """
import os, resource, sys, warnings
sys.path.insert(0, {tests!r})
from conftest import photograph
from uqdm import codec, library
from uqdm import bundle as package
picture, model = photograph({side}, {side}), package.read(library.find("uqdm-light"))
expected = codec.Codec(model, threads=1, backend="onnxruntime").compress(picture)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
os.setuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    one = codec.Codec(model, threads=8, backend="onnxruntime")
    print(one.compress(picture) == expected == one.compress(picture))
print(*(warning.message for warning in caught))
"""
    words = [sys.executable, "-c", code.format(tests=str(Path(__file__).parent), side=SIDE)]
    quiet = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(words, capture_output=True, text=True, check=True, timeout=SECONDS, env=quiet)
    assert (
        run.stdout == "True\nuqdm computes on fewer than 8 threads: can't start new thread; the results are the same\n"
    )


def test_pytorch_is_left_as_it_was() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads(), torch.backends.nnpack.set_flags(True)[0]
    tf32 = [(flags, flags.allow_tf32) for flags in (torch.backends.cuda.matmul, torch.backends.cudnn)]
    try:
        for flags, _ in tf32:
            flags.allow_tf32 = True
        one = opened("torch", threads=before[0] + 1)
        assert torch.get_num_threads() == before[0]
        coded(one)
        assert torch.get_num_threads() == before[0]
        assert all(flags.allow_tf32 for flags, _ in tf32)
        assert torch.backends.nnpack.set_flags(before[1])[0]
    finally:
        for flags, was in tf32:
            flags.allow_tf32 = was


# --- processes


@needs_fork
@every_backend
def test_a_forked_child_goes_on_with_the_codec(backend: str) -> None:
    one = opened(backend)
    expected = coded(one)
    assert in_child(lambda: coded(one)) == expected
    assert in_child(lambda: in_child(lambda: coded(one))) == expected
    assert coded(one) == expected


@needs_fork
@every_backend
def test_a_child_forked_in_the_middle_of_previews_goes_on_with_them(backend: str) -> None:
    one = opened(backend)
    previews = one.progressive(one.compress(photograph(SIDE, SIDE)))
    next(previews)
    assert (
        in_child(lambda: hashlib.sha256(list(previews)[-1].image.tobytes()).hexdigest())
        == hashlib.sha256(list(previews)[-1].image.tobytes()).hexdigest()
    )


@needs_fork
@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_forked_child_that_used_the_codec_exits_as_a_program_does(backend: str) -> None:
    if backend not in backends.available():
        pytest.skip(f"{backend} is not installed")
    code = """
import os, sys
sys.path.insert(0, {tests!r})
from conftest import photograph
import uqdm
codec = uqdm.load("uqdm-light", threads=2, backend={backend!r})
data = codec.compress(photograph({side}, {side}))
child = os.fork()
assert codec.compress(photograph({side}, {side})) == data
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    words = [sys.executable, "-c", code.format(tests=str(Path(__file__).parent), backend=backend, side=SIDE)]
    subprocess.run(words, check=True, timeout=SECONDS)


@pytest.mark.parametrize("way", ["fork", "spawn"])
@every_backend
def test_processes_of_both_kinds_take_a_codec(way: str, backend: str) -> None:
    if way not in multiprocessing.get_all_start_methods() or (way == "spawn" and backend == "numpy"):
        pytest.skip(f"not {way} with {backend}")
    one = opened(backend)
    expected = [coded(one, seed) for seed in range(2)]
    with multiprocessing.get_context(way).Pool(1) as pool:
        found = pool.starmap_async(coded, [(one, 0), (one, 1)]).get(SECONDS)
    assert found == expected


class Packed:
    """A data set whose items are coded where they are asked for."""

    def __init__(self, one: codec.Codec) -> None:
        self.codec = one

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        return self.codec.decompress(self.codec.compress(photograph(24, 24, i)))


def test_a_data_loaders_workers_take_a_codec() -> None:
    data = pytest.importorskip("torch.utils.data")
    found = Packed(opened())
    expected = np.stack([found[i] for i in range(4)])
    loader = data.DataLoader(found, batch_size=2, num_workers=2, timeout=SECONDS)
    assert (np.concatenate([batch.numpy() for batch in loader]) == expected).all()


# --- copies


@every_backend
def test_a_copy_is_equal_before_and_after_the_first_call(backend: str) -> None:
    one = opened(backend)
    expected, sizes = coded(opened(backend), side=24), set()
    for _ in range(2):
        sizes.add(len(pickle.dumps(one)))
        for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):
            assert other == one
            assert hash(other) == hash(one)
            assert coded(other, side=24) == expected
        assert coded(one, side=24) == expected
    assert len(sizes) == 1  # what is ready to run is no part of it
    assert dataclasses.replace(one.package, name="another") != one.package
    assert codec.Codec(one.package, threads=1, backend=backend) != one
    assert one != "a codec"
