"""How many processors this process may use, by its affinity and the quota of its control group.
Knows nothing of what for.

A container often gets a part of a large machine: the machine says 64 processors, affinity says 64,
and the quota says two. Threads above the quota only wait for each other.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # libraries read their threads there
MOST = 256  # the most threads that a caller may ask for


def available(root: Path = Path("/")) -> int:
    """Processors for this process, at least 1: those it may run on, or its control groups' quota,
    rounded up, if that is less.

    `root` is where /proc and /sys are looked for, for tests.
    """
    quotas = [math.ceil(quota) for quota in (_quota_v2(root), _quota_v1(root)) if quota is not None]
    return max(1, min([_affinity(), *quotas]))


def checked(threads: int | None) -> int:
    """The number of threads that a caller asked for; for None, `available`. Raises `ValueError` if
    it is not 1 to MOST.
    """
    if threads is None:
        return available()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST:
        raise ValueError(
            f"threads {threads!r}; expected a whole number of 1 to {MOST}, or None for all processors ({available()}"
            " here)"
        )
    return threads


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota_v2(root: Path) -> float | None:
    """The least quota of this process's group and of those above it, in processors; None if there
    is none.
    """
    group = _groups(root).get("")
    if group is None:
        return None
    found = []
    for folder in _upward(root / "sys/fs/cgroup", group):
        words = _read(folder / "cpu.max").split()  # "200000 100000", in microseconds, or "max 100000"
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _quota_v1(root: Path) -> float | None:
    """The same for version 1, where the controller `cpu` has folders and a file for each number. -1
    means no quota.
    """
    group = _groups(root).get("cpu")
    if group is None:
        return None
    found = []
    for mount in ("cpu", "cpu,cpuacct"):
        for folder in _upward(root / "sys/fs/cgroup" / mount, group):
            quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
            if quota.isdecimal() and period.isdecimal() and int(period):
                found.append(int(quota) / int(period))
    return min(found, default=None)


def _groups(root: Path) -> dict[str, str]:
    """Controllers to this process's control group; "" is version 2's. Lines are
    number:controllers:path.
    """
    found: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            found |= dict.fromkeys(parts[1].split(","), parts[2])
    return found


def _upward(mount: Path, group: str) -> list[Path]:
    """The folder of a group and those above it. Inside a container the path may be the host's, so
    the mount itself is always among them.
    """
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Processes that start here have one thread: libraries read how many they may have when they
    are loaded.
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
