"""Pictures per second: one process, several, and Ray, with other codecs beside them, in alternating
runs of fresh commands.

    python benchmarks/throughput.py PICTURES [--limit N] [--jobs 1 2] [--repeat 3] [--model NAME] [--decompress]

PICTURES is a folder, or a pack (.zip). Each run is a whole command, so its start is in it. A
process has one network thread. Prints medians over the repetitions: pictures and megapixels a
second, the ratio to the first arrangement, processor seconds of all processes and of the busiest
one, and the most memory that all of them held together (resident; pages that they share count for
each). These are looked at ten times a second. On a machine with other work, seconds by the wall say
how much of it was left to us. `free` is the ratio as it were with a processor for each process: the
first arrangement's busiest process by this one's.

`uqdm bulk` runs where Ray is installed, with as many workers as the most jobs; its own processes
count too. `cjxl` and `opj_compress` run where they are found, else the same libraries in
imagecodecs, lossless, picture by picture. Checks that all arrangements write the same files.
"""

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from uqdm import files
from uqdm.cpus import VARIABLES
from uqdm.data.sources import load_pack

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    """Of one command: seconds by the wall; bytes of memory at most; processor seconds by process."""

    wall: float = 0.0
    memory: int = 0
    processor: dict[int, float] = field(default_factory=dict)

    @property
    def used(self) -> float:
        """Processor seconds of all processes."""
        return sum(self.processor.values())

    @property
    def busiest(self) -> float:
        """Processor seconds of one process, at most."""
        return max(self.processor.values())

    def look(self, process: int) -> None:
        """Counts a process and all below it, as they are now."""
        memory, waiting = 0, [process]
        while waiting:
            one = waiting.pop()
            place = Path(f"/proc/{one}")
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                self.processor[one] = (int(fields[11]) + int(fields[12])) / TICK
                memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
                for thread in (place / "task").iterdir():
                    waiting += map(int, (thread / "children").read_text().split())
            except OSError:  # it has ended
                continue
        self.memory = max(self.memory, memory)


def timed(words: list[str], environment: dict[str, str]) -> Run:
    """One command. Its output is thrown away; if it fails, so does this."""
    run, begin, ended = Run(), time.perf_counter(), threading.Event()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def watch() -> None:
        run.look(process.pid)
        while not ended.wait(0.1):
            run.look(process.pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = process.communicate()[1].decode()
    run.wall = time.perf_counter() - begin
    ended.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(words)}\n{said}")
    return run


def others(folder: Path, out: Path) -> dict[str, list[str]]:
    """Commands of other codecs, lossless, by name."""
    found = {}
    loop = "import subprocess, sys\nfor name in {names!r}:\n    subprocess.run([*sys.argv[1:], *{pair}], check=True)"
    names = [path.stem for path in sorted(folder.iterdir())]
    if cjxl := shutil.which("cjxl"):
        pair = f"[f'{folder}/{{name}}.png', f'{out}/{{name}}.jxl']"
        words = [cjxl, "-d", "0", "--num_threads=0", "--quiet"]
        found["cjxl, 1 thread"] = [sys.executable, "-c", loop.format(names=names, pair=pair), *words]
    if opj := shutil.which("opj_compress"):
        pair = f"['-i', f'{folder}/{{name}}.png', '-o', f'{out}/{{name}}.jp2']"
        found["opj_compress, 1 thread"] = [sys.executable, "-c", loop.format(names=names, pair=pair), opj]
    if importlib.util.find_spec("imagecodecs"):
        code = (
            "import imagecodecs, numpy, pathlib\nfrom PIL import Image\n"
            "for path in sorted(pathlib.Path({folder!r}).iterdir()):\n"
            "    data = imagecodecs.{call}\n"
            "    (pathlib.Path({out!r}) / path.stem).write_bytes(data)"
        )
        calls = {
            "cjxl": "jpegxl_encode(numpy.asarray(Image.open(path)), lossless=True, effort=7, numthreads=1)",
            "opj_compress": "jpeg2k_encode(numpy.asarray(Image.open(path)), level=0, reversible=True, numthreads=1)",
        }
        for program, call in calls.items():
            if shutil.which(program) is None:
                text = code.format(folder=str(folder), out=str(out), call=call)
                found[f"imagecodecs {call.split('_')[0]}, 1 thread"] = [sys.executable, "-c", text]
    return found


def prepared(source: Path, limit: int | None, folder: Path) -> int:
    """Puts pictures into a folder as PNG; returns their pixels."""
    folder.mkdir()
    if source.is_dir():
        for path in sorted(p for p in source.iterdir() if p.suffix.lower() in files.READABLE)[:limit]:
            shutil.copy(path, folder / path.name)
    else:
        for i, array in enumerate(load_pack(source)[:limit]):
            Image.fromarray(array).save(folder / f"{i:05}.png")
    return sum(Image.open(path).width * Image.open(path).height for path in folder.iterdir())


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--decompress", action="store_true", help="the other way")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        compare(a, Path(place))


def compare(a: argparse.Namespace, place: Path) -> None:
    """Runs the arrangements in turn, and prints them."""
    pictures, out = place / "in", place / "out"
    pixels = prepared(a.pictures, a.limit, pictures)
    count = len(list(pictures.iterdir()))
    uqdm = [sys.executable, "-m", "uqdm"]
    if a.decompress:
        subprocess.run(
            [*uqdm, "compress", pictures, place / "coded", "--model", a.model], check=True, capture_output=True
        )
        pictures = place / "coded"
    what = "decompress" if a.decompress else "compress"
    model = ["--model", a.model]
    commands: dict[str, list[str]] = {}
    for jobs in a.jobs:
        threads = ["--threads", "1", "--jobs", str(jobs)]
        commands[f"jobs {jobs}"] = [*uqdm, what, str(pictures), str(out), *threads, *model]
    if importlib.util.find_spec("ray"):
        actors = str(max(a.jobs))
        commands[f"Ray, {actors} workers"] = [*uqdm, "bulk", what, str(pictures), str(out), "--actors", actors, *model]
    if not a.decompress:
        commands |= others(pictures, out)
    runs = alternately(commands, a.repeat, out)
    load = os.getloadavg()[0]
    print(
        f"{what}, {count} pictures, {pixels / 1e6:.2f} megapixels, model {a.model}, medians of {a.repeat} runs in turn,"
    )
    print(f"{len(os.sched_getaffinity(0))} processors, load of the machine at the end {load:.1f}")
    print(
        f"{'':30}{'pictures/s':>12}{'Mpixel/s':>10}{'ratio':>8}{'free':>8}{'processor s':>13}{'busiest s':>11}"
        f"{'memory, MiB':>13}"
    )
    first = next(iter(runs.values()))
    for name, some in runs.items():
        wall, used, busiest = (
            statistics.median(getattr(run, of) for run in some) for of in ("wall", "used", "busiest")
        )
        ratio = statistics.median(one.wall / run.wall for one, run in zip(first, some, strict=True))
        free = statistics.median(one.busiest / run.busiest for one, run in zip(first, some, strict=True))
        memory = max(run.memory for run in some) / 2**20
        print(
            f"{name:30}{count / wall:12.2f}{pixels / 1e6 / wall:10.3f}{ratio:8.2f}{free:8.2f}{used:13.1f}"
            f"{busiest:11.1f}{memory:13.0f}"
        )


def alternately(commands: dict[str, list[str]], repeat: int, out: Path) -> dict[str, list[Run]]:
    """The runs of each command, one of each in turn. Those of uqdm must write the same files."""
    environment = os.environ | dict.fromkeys(VARIABLES, "1")
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    expected: dict[str, bytes] | None = None
    for _ in range(repeat):
        for name, words in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            runs[name].append(timed(words, environment))
            if "uqdm" not in words:
                continue
            there = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".parquet"}
            expected = expected or there
            assert there == expected, f"{name} has written other files"
    return runs


if __name__ == "__main__":
    main()
