"""What codecs give, how their bytes are counted, and what describes them."""

import io
import re
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from uqdm import codec, format, library
from uqdm.errors import EvaluationError
from uqdm.evaluation import classical, external, ours, registry
from uqdm.evaluation.codecs import Ladder, clocked, rgb, timed
from uqdm.previews import Method, Way
from uqdm.walk import CHECK, Reader


def points(system: object, pixels: np.ndarray) -> list:
    return list(system.code(pixels))  # type: ignore[attr-defined]


def made(name: str, paper: bool = False) -> object:
    pytest.importorskip("imagecodecs" if name == "jxl" else "pillow_heif" if name in ("heic", "bpg") else "PIL")
    return registry.Spec(name, paper).make()


@pytest.mark.parametrize(
    "name", ["jpeg", "jpeg2000", "jpeg2000-97", "jxl", "webp", "avif", "heic", "bpg", "png", "uqdm", "uqdm:uqdm-light"]
)
def test_every_codecs_points_cost_what_their_files_do_and_get_better(name: str) -> None:
    pixels = photograph(48, 40)
    system = made(name)
    found = points(system, pixels)
    assert len({c.setting for c in found}) == len(found)
    assert all(c.pixels.shape == pixels.shape for c in found)
    least = 0 if "uqdm" in name else 1  # the first of our bytes are a header
    assert all(least <= c.payload <= c.bits for c in found)
    if isinstance(system, Ladder):
        for c in found[:: len(found) - 1 or 1]:
            data = system.encode(pixels, **system.settings[c.setting])
            assert (c.bits, c.payload) == (8 * len(data), 8 * system.payload(data))
            assert (c.pixels == system.decode(data)).all()
    if name == "png":
        assert (found[0].pixels == pixels).all()
        return
    errors = [((c.pixels.astype(float) - pixels) ** 2).mean() for c in found if c.setting != "lossless"]
    assert errors[-1] < 0.2 * errors[0]
    lossless = [c for c in found if (c.pixels == pixels).all()]
    if name in ("jpeg2000", "jxl", "webp", "uqdm", "uqdm:uqdm-light"):
        assert lossless
    if system.progressive:  # type: ignore[attr-defined]
        assert [c.bits for c in found] == sorted(c.bits for c in found)
    assert system.identity["name"] == name.partition(":")[0] if ":" not in name else name  # type: ignore[attr-defined]


def test_jpegs_payload_is_its_scans_whatever_stands_before_them() -> None:
    pixels = photograph(40, 56)
    plain = classical.saved(pixels, "JPEG", quality=60)
    longer = classical.saved(pixels, "JPEG", quality=60, comment=b"x" * 999, icc_profile=b"y" * 500)
    assert len(longer) > len(plain) + 1499
    assert classical.jpeg_payload(longer) == classical.jpeg_payload(plain) < len(plain) - 500
    progressive = classical.saved(pixels, "JPEG", quality=60, progressive=True)
    assert 0.7 < classical.jpeg_payload(progressive) / classical.jpeg_payload(plain) < 1.1
    # Baseline: all that is not scan are segments, and the two markers at the ends.
    at, heads = 2, 4
    while True:
        size = int.from_bytes(plain[at + 2 : at + 4], "big")
        heads, at = heads + 2 + size, at + 2 + size
        if plain[at - size - 1] == 0xDA:
            break
    assert classical.jpeg_payload(plain) == len(plain) - heads


def test_pngs_and_webps_payload_is_their_data() -> None:
    pixels = photograph(20, 30)
    data = classical.saved(pixels, "PNG")
    begin = data.index(b"IDAT") + 4
    assert len(zlib.decompress(data[begin : begin + classical.png_payload(data)])) == 20 * (1 + 3 * 30)
    plain = classical.saved(pixels, "WEBP", lossless=True)
    assert classical.webp_payload(plain) in (len(plain) - 20, len(plain) - 21)
    assert classical.webp_payload(
        classical.saved(pixels, "WEBP", lossless=True, icc_profile=b"z" * 300)
    ) == classical.webp_payload(plain)


def test_a_lossless_file_that_is_cheaper_than_a_lossy_one_is_preferred() -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8) * 255  # hard edges: lossy costs more
    system = made("jxl")
    lossless = next(c for c in points(system, pixels) if c.setting == "lossless")
    found = system.within(pixels, lossless.bits)  # type: ignore[attr-defined]
    assert found.setting == "lossless"
    assert found.bits == lossless.bits
    few = system.within(pixels, lossless.bits - 1)  # type: ignore[attr-defined]
    assert few.bits < lossless.bits


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000", "jpeg2000-97", "jxl", "webp", "avif", "heic", "uqdm"])
def test_at_a_rate_a_codec_gives_the_best_that_costs_no_more(name: str) -> None:
    pixels = photograph(64, 64)
    system = made(name)
    for rate in (2.5, 5.0):
        found = system.within(pixels, rate * 4096)  # type: ignore[attr-defined]
        assert 0.85 * rate < found.bits / 4096 <= rate
        assert re.fullmatch(r"cut|a layer for the rate|(quality|distance|quality layers) [0-9.]+", found.setting)
    cheapest = min(points(system, pixels), key=lambda c: c.bits)
    assert system.within(pixels, 8.0).bits <= 1.01 * cheapest.bits  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 40), (3, 5), (9, 6)])
@pytest.mark.parametrize("name", ["jpeg", "jpeg2000", "jpeg2000-97", "jxl", "webp", "png", "uqdm"])
def test_pictures_of_any_size_are_coded(name: str, shape: tuple[int, int]) -> None:
    pixels = photograph(*shape)
    assert all(c.pixels.shape == pixels.shape for c in points(made(name), pixels))


def test_as_in_the_paper_heic_has_half_the_chroma_and_both_say_which() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, ::2, 0] = 255  # only chroma and luma at the finest scale
    errors = {}
    for paper in (False, True):
        system = made("bpg", paper)
        errors[paper] = min(((c.pixels.astype(float) - pixels) ** 2).mean() for c in points(system, pixels))
        assert ("4:2:0" in system.label) == paper  # type: ignore[attr-defined]
        assert ("4:2:0" in made("jpeg", paper).label) == paper  # type: ignore[attr-defined]
    assert errors[True] > 10 * errors[False]


def test_avif_and_heic_payload_is_the_contents_of_mdat() -> None:
    data = classical.saved(photograph(32, 32), "AVIF", quality=80)
    at = data.rindex(b"mdat")  # Pillow writes it last
    assert classical.box_payload(data) == len(data) - at - 4 == int.from_bytes(data[at - 4 : at], "big") - 8


@pytest.mark.parametrize("paper", [False, True])
def test_jpeg2000s_layers_are_whole_files_of_the_rates_told(paper: bool) -> None:
    pixels = photograph(64, 64)
    found = points(made("jpeg2000", paper), pixels)
    assert (found[-1].pixels == pixels).all()
    assert all(c.bits - 8 * (240 if paper else 150) < c.payload < c.bits for c in found)
    ratios = classical.PAPER_LAYERS if paper else classical.LAYERS
    for ratio, c in [(r, c) for r, c in zip(ratios, found) if 1 < r <= (5 if paper else 35)]:
        assert c.bits / 4096 == pytest.approx(24 / ratio, rel=0.1)


def test_a_cut_jpeg2000_file_is_the_shortest_that_shows_its_layer() -> None:
    pixels = photograph(64, 64)
    data = classical.saved(
        pixels,
        "JPEG2000",
        mct=1,
        no_jp2=True,
        num_resolutions=3,
        irreversible=False,
        quality_mode="rates",
        quality_layers=[20, 5, 1],
    )
    stream = classical.Codestream.of(data)
    assert classical.packets(data) == stream.end - stream.begin
    one = classical.Layered("jpeg2000", "", (20, 5, 1), (("mct", 1), ("no_jp2", True), ("num_resolutions", 3)))
    for k, c in enumerate(one.code(pixels), 1):
        size = int(c.payload or 0) // 8
        assert (classical.opened(stream.cut(data, k, size)) == c.pixels).all()
        assert not one.same(stream.cut(data, k, size - 1), c.pixels)
    assert int(c.bits) // 8 <= len(data)


@pytest.mark.parametrize("shape", [(1, 1), (5, 70), (64, 64), (130, 96)])
def test_layers_end_where_packet_lengths_say_and_the_search_for_the_last_byte_is_short(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = photograph(*shape)
    layered = made("jpeg2000")
    opened, reads = classical.opened, []
    monkeypatch.setattr(classical, "opened", lambda data: reads.append(len(data)) or opened(data))
    found = points(layered, pixels)
    assert len(reads) <= len(found) * (2 + classical.NEAR)
    assert len(reads) < 5 * len(found)  # bisection took one for each binary digit of the file's length
    monkeypatch.setattr(classical.Codestream, "lengths", lambda self, data: [])
    slow = points(layered, pixels)  # without a list each layer is looked for in all of the file
    assert [(c.setting, c.bits, c.payload) for c in found] == [(c.setting, c.bits, c.payload) for c in slow]
    assert all((a.pixels == b.pixels).all() for a, b in zip(found, slow))


@pytest.mark.parametrize("rates", [ours.RATES, [24 / r for r in classical.LAYERS], [24 / r for r in classical.RATIOS]])
def test_curves_begin_at_a_tenth_of_a_bit(rates: list[float]) -> None:
    assert min(rates) <= 0.1
    assert max(rates) > 8


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=[pytest.mark.slow] if (name, method) == ("photo", "ancestral") else [])
        for name in ("photo", "nano", "uqdm-light")
        for method in ("denoise", "ancestral", "flow")
    ],
)
def test_all_beginnings_from_one_walk_are_what_each_decodes_to(
    name: str, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ours.opened(str(library.find(name)))
    pixels = photograph(40, 36)
    data = model.compress(pixels, seed=5)
    ends = format.ends(format.parse(data))
    sizes = sorted(
        {*ends, *(end + k for end in ends[:-1] for k in (1, 3, 9)), *range(ends[0], len(data), len(data) // 7)}
    )
    walked: list[int] = []
    real = codec.Reader  # type: ignore[attr-defined]

    def reader(number: int, payloads: list[bytes], whole: bool, *rest: object, **more: object) -> Reader:
        walked.extend([number] * whole)
        return real(number, payloads, whole, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(codec, "Reader", reader)
    found = list(ours.previews(model, data, [*sizes, len(data)], Way(method, 3)))
    assert walked == list(range(1, model.steps + 1))  # no whole step is decoded twice
    assert [one.size for one in found] == [*sizes, len(data)]
    for one in found:
        assert (one.pixels == model.decode(data[: one.size], method=method, seed=3).image).all()
    assert found[-1].pixels is found[-2].pixels
    assert (found[-1].pixels == pixels).all()
    assert all(one.seconds > 0 for one in found)


def test_a_beginnings_time_is_that_of_its_own_steps_and_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ours.opened(str(library.find("nano")))
    data = model.compress(photograph(24, 24))
    ends = format.ends(format.parse(data))
    made: list[int] = []
    real = codec.Reader  # type: ignore[attr-defined]

    def reader(number: int, *rest: object) -> Reader:
        made.append(number)
        return real(number, *rest)  # type: ignore[arg-type]

    def timed(function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
        before = len(made)
        return function(*given), len(made) - before

    monkeypatch.setattr(codec, "Reader", reader)
    monkeypatch.setattr(ours, "timed", timed)  # each step, whole or not, takes a second
    sizes = [n for end in ends[:-1] for n in (end, end + 20)]
    found = [one.seconds for one in ours.previews(model, data, sizes, Way("denoise"))]
    assert found == [k + cut for k in range(model.steps) for cut in (0, 1)]


def test_ours_is_cut_at_bytes_and_its_payload_is_the_range_coders() -> None:
    pixels = photograph(32, 32)
    system = ours.Progressive("uqdm", str(library.find("nano")), rates=(1.0, 3.0))
    found = {c.setting: c for c in system.code(pixels)}
    model = ours.opened(str(library.find("nano")))
    data = model.compress(pixels)
    assert found["3 bpp"].bits == 3 * 1024
    assert (found["3 bpp"].pixels == model.decompress(data[: 3 * 128])).all()
    steps = [c for c in format.parse(data).chunks if c.kind == format.STEP]
    assert found["whole"].bits == 8 * len(data)
    assert found["whole"].payload == 8 * sum(len(c.payload) - CHECK for c in steps)
    assert found["3 bpp"].payload < found["3 bpp"].bits
    assert {"step 1", "step 2", "step 3"} <= found.keys()
    longer = {c.setting: c for c in ours.Progressive("uqdm", str(library.find("nano")), rates=(99.0,)).code(pixels)}
    assert longer["99 bpp"].bits == 8 * len(data)  # all there is costs no more
    other = ours.Progressive("uqdm", str(library.find("nano")), seed=3)
    assert other.identity["seed"] == 3
    assert next(c for c in other.code(pixels) if c.setting == "whole").bits == 8 * len(model.compress(pixels, seed=3))


def test_as_in_the_paper_models_are_counted_by_their_own_code_length() -> None:
    pixels = photograph(24, 24)
    system = registry.Spec("uqdm:uqdm-light", True).make()
    assert system.hypothetical
    found = points(system, pixels)
    model = ours.opened(str(library.find("uqdm-light")))
    assert [c.setting for c in found] == [f"step {k}" for k in range(6)]  # T steps, and the pixels
    assert found[0].bits == 0
    assert found[-1].bits == pytest.approx(model.estimate(pixels, mode="paper").sum())
    assert (found[-1].pixels == pixels).all()


def test_a_vdm_gives_hypothetical_points_that_end_with_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = Path(__file__).parent.parent.parent / "checkpoints" / "tiny-vdm"
    pixels = photograph(32, 32)
    for kind in ("vdm-d", "vdm-a", "vdm-f"):
        system = registry.Spec(f"{kind}:{run}@4").make()
        assert system.hypothetical
        assert system.label.endswith("T = 4, hypothetical, trained 17,923 steps, 111 minutes")
        found = points(system, pixels)
        assert [c.bits for c in found] == sorted(c.bits for c in found)
        assert (found[-1].pixels == pixels).all()
        errors = [((c.pixels.astype(float) - pixels) ** 2).mean() for c in found]
        assert errors[0] > errors[-2]
    a, b = (points(registry.Spec(f"vdm-a:{run}@4", seed=s).make(), pixels)[1].bits for s in (0, 1))
    assert a != b
    for name in (f"vdm:{tmp_path}", f"vdm:{run}@0"):
        with pytest.raises(EvaluationError, match="expected vdm:RUN, perhaps @T"):
            registry.Spec(name).make()


# --- external codecs


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """Our own command line as somebody else's codec, and one that fails."""
    python = sys.executable
    path = tmp_path / "codecs.toml"
    path.write_text(
        f'[outside]\nlabel = "by commands"\nencode = "{python} -m uqdm compress {{input}} {{output}} --model nano'
        f' --max-error {{setting}}"\ndecode = "{python} -m uqdm decompress {{input}} {{output}}"\nsettings = ["30",'
        f' "0"]\nsuffix = ".uqdm"\n[fails]\nencode = "{python} -c \'import sys; sys.exit(3)\' {{input}}'
        f' {{output}}"\ndecode = "{python}"\nsettings = [""]\n'
    )
    return path


def test_a_codec_with_a_command_line_is_one_of_them(described: Path) -> None:
    pixels = photograph(16, 20)
    chosen, missing = registry.specs(["outside", "png"], described=[str(described)])
    assert [s.name for s in chosen] == ["outside", "png"]
    assert not missing
    rough, whole = points(chosen[0].make(), pixels)
    assert (rough.setting, whole.setting) == ("30", "0")
    assert (whole.pixels == pixels).all()
    assert np.abs(rough.pixels.astype(int) - pixels).max() <= 30
    assert rough.bits < whole.bits
    assert whole.payload is None
    model = ours.opened(str(library.find("nano")))
    assert whole.bits == 8 * len(model.compress(pixels))


def test_a_folder_of_files_counts_as_all_of_them_and_printed_bits_are_hypothetical(tmp_path: Path) -> None:
    script = tmp_path / "codec.py"
    script.write_text(
        "import pathlib, shutil, sys\nwhat, source, target = sys.argv[1:]\nif what == 'split':\n    folder ="
        " pathlib.Path(target); (folder / 'sub').mkdir(parents=True); data = pathlib.Path(source).read_bytes()\n   "
        " (folder / 'a').write_bytes(data[:50]); (folder / 'sub' / 'b').write_bytes(data[50:])\nelif what == 'join':\n "
        "   folder = pathlib.Path(source)\n    pathlib.Path(target).write_bytes((folder / 'a').read_bytes() + (folder /"
        " 'sub' / 'b').read_bytes())\nelse:\n    shutil.copy(source, target); print('bpp: tensor([1.75])')\n"
    )
    path = tmp_path / "codecs.toml"
    run = f"{sys.executable} {script}"
    path.write_text(
        f'[pieces]\nencode = "{run} split {{input}} {{output}}"\ndecode = "{run} join {{input}} {{output}}"\nsettings ='
        f' [""]\n[guess]\nencode = "{run} copy {{input}} {{output}}"\nestimate = \'tensor\\(\\[([0-9.]+)\'\nsettings ='
        f' [""]\n[silent]\nencode = "{run} copy {{input}} {{output}}"\nestimate = "rate=([0-9.]+)"\nsettings = [""]\n'
    )
    pixels, found = photograph(12, 9), external.read(path)
    (pieces,) = points(found["pieces"], pixels)
    assert (pieces.pixels == pixels).all()
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    assert pieces.bits == 8 * len(png.getvalue())
    assert not found["pieces"].hypothetical
    (guess,) = points(found["guess"], pixels)
    assert guess.bits == 1.75 * 12 * 9
    assert found["guess"].hypothetical
    with pytest.raises(EvaluationError, match="finds no bits per pixel"):
        points(found["silent"], pixels)


def test_commands_that_fail_or_are_not_there_are_named(described: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"fails: .* exit status 3"):
        points(external.read(described)["fails"], photograph(8, 8))
    other = tmp_path / "other.toml"
    for text, what in (
        ('[a]\nencode = "no-such-program x"\ndecode = "y"\nsettings = [""]\n', "'no-such-program' is not there"),
        ('[a]\nencode = "true"\n', "a: expected encode, settings, and decode or estimate"),
        ('[a]\nencode = ""\ndecode = "true"\nsettings = [""]\n', "program '' is not there"),
        ('[a]\nencode = 3\ndecode = "true"\nsettings = [""]\n', "encode is 3; expected text"),
        ('[a]\nencode = "true"\ndecode = "true"\nsettings = []\n', "settings is"),
        ('[a]\nencode = "true"\ndecode = "true"\nsettings = "10"\n', "settings is '10'"),
        ('[a]\nencode = "true \'x"\ndecode = "true"\nsettings = [""]\n', "No closing quotation"),
        ('[a]\nencode = "true"\nestimate = "("\nsettings = [""]\n', "a: "),
        ('[a]\nencode = "true"\ndecode = "true"\nsettings = [""]\nenvironment = {A = 1}\n', "environment is"),
        ('[uqdm-x]\nencode = "true"\ndecode = "true"\nsettings = [""]\n', "give it another"),
        ("a = [", "other.toml"),
    ):
        other.write_text(text)
        with pytest.raises(EvaluationError, match=what):
            external.read(other)


def test_names_that_nobody_knows_are_refused_and_all_leaves_out_what_is_not_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("jpeg3", "uqdm:no-such-model", "jpeg:9", "vdm:nowhere", "vdm-b"):
        with pytest.raises(Exception, match=name.partition(":")[2] or name):
            registry.specs([name])
    monkeypatch.setenv("PATH", "")
    chosen, missing = registry.specs(["all"])
    assert {"uqdm", "jpeg", "jpeg2000", "webp", "png"} <= {s.name for s in chosen}
    assert "not on the PATH" in missing["flif"]
    assert "--beside" in missing["vdm"]  # it takes too long for `all`
    assert "vdm" not in registry.specs(["all", "vdm-d:" + str(Path(__file__).parents[2] / registry.BASELINE)])[1]
    assert "heic" not in {s.name for s in chosen}  # it stands in BPG's place


def test_times_are_what_a_process_works_and_not_what_it_waits() -> None:
    assert timed(time.sleep, 0.3)[1] < 0.2 < clocked(time.sleep, 0.3)[1]
    found, seconds = timed(sum, range(3_000_000))
    assert found == 4_499_998_500_000
    assert seconds > 0.001


def test_a_decoder_that_gives_another_picture_is_noticed() -> None:
    small = io.BytesIO()
    Image.new("RGB", (3, 3)).save(small, "PNG")
    broken = Ladder("broken", "broken", {"": {}}, lambda pixels: small.getvalue(), classical.opened, len)
    with pytest.raises(ValueError, match=r"gave uint8 \(3, 3, 3\); expected uint8 \(8, 8, 3\)"):
        points(broken, photograph(8, 8))
    assert rgb(np.zeros((2, 2), np.uint8), (2, 2, 3)).shape == (2, 2, 3)


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000"])
def test_rates_as_in_the_paper_are_the_published_ones_within_two_per_cent(name: str, shared: Path) -> None:
    from uqdm.data.sources import load_pack
    from uqdm.evaluation.curves import read_published

    pictures = load_pack(shared / "data" / "cifar10_test.zip")[:400]
    (published,) = [c for c in read_published(shared / "published" / "cifar.yml") if c.name == f"published:{name}"]
    system = registry.Spec(name, paper=True).make()
    bits = np.mean([[c.bits / 1024 for c in points(system, p)] for p in pictures], 0)
    assert bits == pytest.approx([p.bpp for p in published.points], rel=0.02)
