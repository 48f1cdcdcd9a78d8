"""How many processors there are for us: what affinity and control groups of both versions say, from
files made up here.
"""

from pathlib import Path

import pytest

from uqdm import cpus


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 processors, all of them allowed."""
    monkeypatch.setattr(cpus, "_affinity", lambda: 16)


def machine(root: Path, groups: str, **files: str) -> Path:
    """A root with /proc/self/cgroup and files under /sys/fs/cgroup, "__" for a slash and "_dot_"
    for a dot in their names.
    """
    for name, text in {"proc__self__cgroup": groups, **{f"sys__fs__cgroup__{n}": t for n, t in files.items()}}.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("9900000 100000", 16)],
)
def test_a_quota_of_version_2_is_rounded_up_and_never_more_than_affinity_allows(
    tmp_path: Path, limit: str, expected: int
) -> None:
    assert cpus.available(machine(tmp_path, "0::/job\n", job__cpu_dot_max=limit + "\n")) == expected


def test_the_least_quota_of_the_groups_above_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "0::/a/b\n",
        a__b__cpu_dot_max="800000 100000\n",
        a__cpu_dot_max="300000 100000\n",
        cpu_dot_max="max 100000\n",
    )
    assert cpus.available(root) == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 16), ("250000", 3)])
@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_version_1_counts(tmp_path: Path, mount: str, quota: str, expected: int) -> None:
    where = f"{mount}__box__cpu_dot_cfs_"
    root = machine(
        tmp_path, "9:cpu,cpuacct:/box\n3:memory:/\n", **{f"{where}quota_us": quota, f"{where}period_us": "100000\n"}
    )
    assert cpus.available(root) == expected


def test_in_a_container_the_group_is_where_the_mount_is(tmp_path: Path) -> None:
    assert cpus.available(machine(tmp_path, "0::/docker/0123456789ab\n", cpu_dot_max="400000 100000\n")) == 4


@pytest.mark.parametrize("text", ["", "max", "nonsense\n", "0 0", "-5 100000", "100000 0"])
def test_what_cannot_be_read_is_no_quota(tmp_path: Path, text: str) -> None:
    assert cpus.available(machine(tmp_path, "0::/\n", cpu_dot_max=text)) == 16
    assert cpus.available(tmp_path / "nothing here") == 16


@pytest.mark.parametrize("threads", [0, -1, cpus.MOST + 1, 10**9, 2.0, "2", True])
def test_absurd_numbers_of_threads_are_refused(threads: object) -> None:
    with pytest.raises(ValueError, match=r"threads .*; expected a whole number of 1 to 256"):
        cpus.checked(threads)  # type: ignore[arg-type]
