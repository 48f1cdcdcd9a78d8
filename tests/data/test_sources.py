"""Sources: what each kind of file gives, and what is said where it is missing, broken or hostile.
Real files, made here.
"""

import contextlib
import io
import os
import pickle
import struct
import tarfile
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import pack, photograph
from PIL import Image

from uqdm import errors
from uqdm.data import datasets
from uqdm.data.opening import expand, open_source
from uqdm.data.sources import Cache, Source, every_tenth, load_pack
from uqdm.errors import SourceError


def pictures(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


def rows(some: np.ndarray) -> np.ndarray:
    """As CIFAR-10 and ImageNet 64 × 64 lay pictures out: red, green, blue."""
    return np.ascontiguousarray(some.transpose(0, 3, 1, 2)).reshape(len(some), -1)


def same(source: Source | None, some: np.ndarray) -> bool:
    assert source is not None
    assert len(source) == len(some)
    return all(np.array_equal(source[i], picture) for i, picture in enumerate(some))


def python2(some: np.ndarray) -> bytes:
    """The bytes that Python 2 wrote for {'batch_label': ..., 'labels': [...], 'data': array,
    'filenames': [...]}, protocol 2.
    """
    data = rows(some)
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = struct.pack("<cHcH", b"M", data.shape[0], b"M", data.shape[1]) + b"\x86"
    values = b"T" + struct.pack("<i", data.size) + data.tobytes()
    labels = b"](" + b"K\x07" * len(some) + b"e"
    names = b"](" + b"U\x05a.png" * len(some) + b"e"
    entries = (
        b"U\x0bbatch_labelU\x05batchU\x06labels"
        + labels
        + b"U\x04data"
        + array
        + b"(K\x01"
        + shape
        + kind
        + b"\x89"
        + values
        + b"tb"
    )
    return b"\x80\x02}(" + entries + b"U\tfilenames" + names + b"u."


def cifar(folder: Path, each: int = 3) -> np.ndarray:
    """The six files; all their pictures, the test's last."""
    folder.mkdir(parents=True)
    some = pictures(6 * each, 32)
    for i, file in enumerate(datasets.CIFAR):
        (folder / file).write_bytes(python2(some[i * each : (i + 1) * each]))
    return some


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


# --- packs and arrays


def test_a_pack_comes_back_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    some = pictures(5, 16)
    assert (load_pack(pack(tmp_path / "a.zip", some)) == some).all()
    with pytest.raises(errors.ImageError, match="not those"):
        load_pack(pack(tmp_path / "b.zip", some, sha256_of_uint8_NHWC="0" * 64))
    (tmp_path / "c.zip").write_bytes(b"no zip")
    with pytest.raises(errors.ImageError, match=r"c\.zip"):
        load_pack(tmp_path / "c.zip")


def test_a_folder_of_packs_is_divided_by_their_names(tmp_path: Path) -> None:
    some = pictures(6, 8)
    for name, part in (("cifar10_train_a", some[:2]), ("cifar10_train_b", some[2:4]), ("cifar10_test", some[4:])):
        pack(tmp_path / f"{name}.zip", part)
    train, held = open_source(tmp_path)
    assert same(train, some[:4])
    assert same(held, some[4:])
    assert open_source(tmp_path / "cifar10_test.zip")[1] is None


def test_arrays_have_their_channels_last_or_first(tmp_path: Path) -> None:
    some = pictures(4, 8)
    np.save(tmp_path / "a.npy", some)
    np.save(tmp_path / "b.npy", some.transpose(0, 3, 1, 2))
    for source in (some, some.transpose(0, 3, 1, 2), tmp_path / "a.npy", tmp_path / "b.npy", list(some)):
        assert same(open_source(source)[0], some)
    with pytest.raises(errors.ImageError, match="float32 of shape"):
        open_source(some.astype(np.float32))
    (tmp_path / "c.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    np.save(tmp_path / "d.npy", np.array([{}]), allow_pickle=True)
    for name in "c", "d":
        with pytest.raises(errors.ImageError, match=rf"{name}\.npy"):
            open_source(tmp_path / f"{name}.npy")


# --- picture files


def test_grey_becomes_rgb_and_alpha_is_dropped(tmp_path: Path) -> None:
    colour, grey = photograph(9, 7), photograph(9, 7)[..., 0]
    Image.fromarray(np.dstack([colour, grey])).save(tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "b.png")
    Image.fromarray(np.dstack([grey, grey])).save(tmp_path / "c.png")
    source, held = open_source(tmp_path)
    assert held is None
    assert [p.tolist() for p in (source[0], source[1], source[2])] == [
        a.tolist() for a in (colour, *[np.dstack([grey] * 3)] * 2)
    ]


def test_a_broken_picture_is_an_error_when_it_is_asked_for_and_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(photograph(8, 8))[:60])
    (tmp_path / "b.png").write_bytes(png(photograph(8, 8)))
    source, _ = open_source(tmp_path)
    assert source[1].shape == (8, 8, 3)
    with pytest.raises(errors.ImageError, match=r"a\.png"):
        source[0]


def test_a_folder_holds_train_and_val_and_a_glob_may_choose(tmp_path: Path) -> None:
    for part, n in (("train", 3), ("val", 2)):
        (tmp_path / part).mkdir()
        for i in range(n):
            (tmp_path / part / f"{i}.png").write_bytes(png(pictures(1, 8, i)[0]))
    for source in (tmp_path, f"{tmp_path}/*/*.png", f"{tmp_path}/{{train,val}}/*"):
        train, held = open_source(source)
        assert (len(train), held and len(held)) == (3, 2)
    train, held = open_source(f"{tmp_path}/train/*.png")
    assert (len(train), held) == (3, None)


def test_decoded_pictures_are_kept_up_to_a_number_of_bytes() -> None:
    cache, decoded = Cache(limit=3 * 192), []

    def ask(key: int) -> np.ndarray:
        def decode() -> np.ndarray:
            decoded.append(key)
            return np.zeros((8, 8, 3), np.uint8)

        return cache.get(key, decode)

    for key in (0, 1, 2, 0, 3, 0, 1):  # 1 was the one longest unused when 3 came
        assert not ask(key).flags.writeable
    assert decoded == [0, 1, 2, 3, 1]
    assert cache.size == 3 * 192
    cache.get("large", lambda: np.zeros((100, 100, 3), np.uint8))
    assert cache.size == 3 * 192


# --- CIFAR-10


def test_cifar_is_read_as_published_and_as_python_3_writes_it(tmp_path: Path) -> None:
    some = cifar(tmp_path / "cifar-10-batches-py")
    for folder in (tmp_path, tmp_path / "cifar-10-batches-py"):
        train, held = open_source(folder)
        assert same(train, some[:15])
        assert same(held, some[15:])
    for protocol in range(2, 6):
        again = pickle.dumps({b"data": rows(some[:3]), b"labels": [1, 2, 3], b"batch_label": b"batch"}, protocol)
        (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(again)
        assert same(open_source(tmp_path)[1], some[:3])


class Hostile:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, eval, getattr])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, function: object) -> None:
    cifar(tmp_path / "c")
    for data in ({b"data": Hostile(function, str(tmp_path / "trap"))}, Hostile(function, str(tmp_path / "trap"))):
        (tmp_path / "c" / "data_batch_2").write_bytes(pickle.dumps(data))
        with pytest.raises(errors.ImageError, match=r"data_batch_2.*refused"):
            open_source(tmp_path / "c")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "data", [{b"data": np.zeros((2, 3072), object)}, {b"data": np.zeros((2, 30), np.uint8)}, {b"data": 5}, [1], {}]
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, data: object) -> None:
    cifar(tmp_path / "c")
    (tmp_path / "c" / "test_batch").write_bytes(pickle.dumps(data, 2))
    with pytest.raises(errors.ImageError, match="test_batch"):
        open_source(tmp_path / "c")


def test_a_cut_or_missing_cifar_file_is_named(tmp_path: Path) -> None:
    cifar(tmp_path / "c")
    whole = (tmp_path / "c" / "data_batch_4").read_bytes()
    (tmp_path / "c" / "data_batch_4").write_bytes(whole[:5000])
    with pytest.raises(errors.ImageError, match="data_batch_4"):
        open_source(tmp_path / "c")
    (tmp_path / "c" / "data_batch_4").unlink()
    with pytest.raises(errors.ImageError, match="data_batch_4 missing"):
        open_source(tmp_path / "c")


def test_no_change_of_a_byte_gives_anything_but_an_array_or_an_error_and_none_asks_for_much_memory(
    tmp_path: Path,
) -> None:
    whole = python2(pictures(1, 32))
    head = whole.index(b"T") + 5
    random = np.random.default_rng(0)
    path = tmp_path / "test_batch"
    for _ in range(500):
        changed = bytearray(whole)
        place = int(random.integers(head)) if random.random() < 0.8 else int(random.integers(head + 3072, len(whole)))
        changed[place] = int(random.integers(256))
        path.write_bytes(changed)
        with contextlib.suppress(errors.ImageError):
            assert datasets.pickled(path)[0].shape == (32, 32, 3)
    path.write_bytes(
        b"\x80\x02}r\xff\xff\xff\xff" + whole[3:]
    )  # memo number 2 ** 32 - 1: a list that long would be 64 GB
    assert datasets.pickled(path)[0].shape == (32, 32, 3)


# --- ImageNet 64 × 64


@pytest.fixture
def imagenet(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Two training batches, one of them compressed, and val; all pictures, those of val last."""
    some = pictures(14, 64)
    folder = tmp_path / "imagenet64"
    (folder / "train").mkdir(parents=True)
    mean, labels = np.zeros(12288), np.zeros(5, int)
    np.savez(folder / "train" / "train_data_batch_1.npz", data=rows(some[:5]), labels=labels, mean=mean)
    np.savez_compressed(folder / "train" / "train_data_batch_2.npz", labels=labels, mean=mean, data=rows(some[5:10]))
    np.savez(folder / "val_data.npz", labels=labels, data=rows(some[10:]))
    return folder, some


@pytest.mark.filterwarnings("ignore:.*training batches")
def test_imagenet_is_read_as_published_mapped_where_it_is_not_compressed(imagenet: tuple[Path, np.ndarray]) -> None:
    folder, some = imagenet
    train, held = open_source(folder)
    assert same(train, some[:10])
    assert same(held, some[10:])
    (folder / "val_data.npz").rename(folder / "val_data_batch_1.npz")
    assert same(open_source(folder)[1], some[10:])
    assert same(open_source(str(folder / "train" / "*.npz"))[0], some[:10])


@pytest.mark.filterwarnings("ignore:.*training batches")
def test_duplicates_are_left_out_of_val(imagenet: tuple[Path, np.ndarray]) -> None:
    folder, some = imagenet
    np.save(folder / "removed.npy", np.array([2, 0]))
    train, held = open_source(folder)
    assert len(train) == 10
    assert same(held, some[[11, 13]])
    (folder / "val").mkdir()
    (folder / "val_data.npz").rename(folder / "val" / "val_data.npz")
    assert same(open_source(folder)[1], some[[11, 13]])
    np.save(folder / "val" / "removed.npy", np.array([1, 2], np.int32))
    assert same(open_source(folder)[1], some[[13]])
    for wrong in (np.array([4]), np.array([-1]), np.array([0.5]), np.array([{}])):
        np.save(folder / "removed.npy", wrong, allow_pickle=True)
        with pytest.raises(errors.ImageError, match=r"removed\.npy"):
            open_source(folder)


def test_a_missing_batch_is_named_and_fewer_than_ten_are_a_warning(imagenet: tuple[Path, np.ndarray]) -> None:
    folder, _ = imagenet
    with pytest.warns(UserWarning, match="2 of ImageNet's 10"):
        open_source(folder)
    (folder / "train" / "train_data_batch_2.npz").rename(folder / "train" / "train_data_batch_4.npz")
    with pytest.raises(errors.ImageError, match="batch 2, 3 missing"):
        open_source(folder)


@pytest.mark.filterwarnings("ignore:.*training batches")
def test_a_broken_npz_is_named(imagenet: tuple[Path, np.ndarray]) -> None:
    folder, _ = imagenet
    val = folder / "val_data.npz"
    whole = val.read_bytes()
    val.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.ImageError, match=r"val_data\.npz.*get it again"):
        open_source(folder)
    wrong = [
        {"data": np.zeros((2, 100), np.uint8)},
        {"data": np.zeros((2, 12288))},
        {"pictures": np.zeros(2)},
        {"data": np.array([{}])},
    ]
    for arrays in wrong:
        np.savez(val, **arrays)
        with pytest.raises(errors.ImageError, match=r"val_data\.npz"):
            open_source(folder)


def test_a_damaged_compressed_batch_is_no_broken_picture_but_the_end(imagenet: tuple[Path, np.ndarray]) -> None:
    path = imagenet[0] / "train" / "train_data_batch_2.npz"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 255
    path.write_bytes(whole)
    source, _ = open_source(path)
    for _ in range(2):
        with pytest.raises(SourceError, match=r"batch_2\.npz: damaged"):
            source[0]


# --- shards


def test_shards_give_their_pictures_and_nothing_else(tmp_path: Path) -> None:
    some = pictures(6, 8)
    for s in range(3):
        members = {
            f"{i}.{k}": d
            for i in (2 * s, 2 * s + 1)
            for k, d in (("png", png(some[i])), ("cls", b"7"), ("json", b"{}"))
        }
        shard(tmp_path / f"a-{s:03}.tar", members)
    for source in (tmp_path, f"{tmp_path}/a-{{000..002}}.tar", f"{tmp_path}/*.tar"):
        assert same(open_source(source)[0], some)
    assert same(open_source(tmp_path / "a-001.tar")[0], some[2:4])
    with pytest.raises(errors.ImageError, match=r"2 of 5 are not there; the first: .*a-003"):
        open_source(f"{tmp_path}/a-{{000..004}}.tar")


def test_threads_read_one_shard_at_once(tmp_path: Path) -> None:
    some = pictures(40, 8)
    source, _ = open_source(shard(tmp_path / "a.tar", {f"{i}.png": png(p) for i, p in enumerate(some)}))
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(same(source, some))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_a_cut_empty_or_compressed_shard_is_named(tmp_path: Path) -> None:
    whole = shard(tmp_path / "a.tar", {f"{i}.png": png(p) for i, p in enumerate(pictures(4, 32))}).read_bytes()
    first = 512 + (len(png(pictures(4, 32)[0])) + 511) // 512 * 512
    for end in (0, 100, first - 600, first, first + 100, first + 512 + 10):
        (tmp_path / "b.tar").write_bytes(whole[:end])
        with pytest.raises(errors.ImageError, match=r"b\.tar"):
            open_source(tmp_path / "b.tar")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz"):
        pass
    with pytest.raises(errors.ImageError, match="unpack"):
        open_source(tmp_path / "c.tar.gz")
    with pytest.raises(errors.ImageError, match="no pictures in the shards"):
        open_source(shard(tmp_path / "d.tar", {"a.txt": b"text"}))


def test_a_broken_member_names_shard_and_member(tmp_path: Path) -> None:
    source, _ = open_source(
        shard(tmp_path / "a.tar", {"x/0.png": b"\x89PNG nothing", "x/1.png": png(photograph(8, 8))})
    )
    assert source[1].shape == (8, 8, 3)
    with pytest.raises(errors.ImageError, match=r"a\.tar/x/0\.png"):
        source[0]


def test_braces_are_written_out_as_a_shell_would() -> None:
    assert expand("a{08..11}.tar") == ["a08.tar", "a09.tar", "a10.tar", "a11.tar"]
    assert expand("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    assert expand("{plain}") == ["{plain}"]
    with pytest.raises(errors.ImageError, match="limit"):
        expand("{0..99999999}")


# --- what is not there


@pytest.mark.parametrize(
    ("name", "folder", "file"), [("CIFAR10", "cifar10", "data_batch_1"), ("ImageNet64", "imagenet64", "val_data.npz")]
)
def test_a_name_without_its_data_says_what_is_expected_where(tmp_path: Path, name: str, folder: str, file: str) -> None:
    with pytest.raises(errors.ImageError) as raised:
        open_source(name.lower(), tmp_path)
    for word in (str(tmp_path / folder), file, "unpack", "path"):
        assert word in str(raised.value)


@pytest.mark.filterwarnings("ignore:.*training batches")
def test_names_are_found_in_any_case_and_have_to_be_whole(tmp_path: Path, imagenet: tuple[Path, np.ndarray]) -> None:
    some = cifar(tmp_path / "CIFAR10" / "cifar-10-batches-py")
    assert same(open_source("cifar-10", tmp_path)[0], some[:15])
    assert same(open_source("IMAGENET64", tmp_path)[0], imagenet[1][:10])
    (imagenet[0] / "val_data.npz").unlink()
    with pytest.raises(errors.ImageError, match=r"nothing for evaluation.*val_data\.npz"):
        open_source("ImageNet64", tmp_path)


def test_nothing_there_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere", f"{tmp_path}/*.png"):
        with pytest.raises(errors.ImageError, match=r"no pictures there.*\.png.*cifar10"):
            open_source(source)
    (tmp_path / "a.png").write_bytes(png(photograph(8, 8)))
    with zipfile.ZipFile(tmp_path / "b.zip", "w"):
        pass
    with pytest.raises(errors.ImageError, match="together"):
        open_source(f"{tmp_path}/*")
    assert len(open_source(tmp_path)[0]) == 1  # a folder with pictures is a folder of pictures


def test_every_tenth_picture_is_for_evaluation_where_nothing_divides_them() -> None:
    some = pictures(21, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, held = every_tenth(open_source(some)[0])
    assert same(held, some[::10])
    assert same(train, np.delete(some, [0, 10, 20], 0))
