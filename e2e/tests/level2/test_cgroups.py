from pathlib import Path

from sandbox.nodes.kubelet import cgroups
from sandbox.nodes.kubelet.cgroups import Hierarchy

HYBRID = """\
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_reads_the_hierarchies_of_a_hybrid_host() -> None:
    found = cgroups.hierarchies(HYBRID)

    assert [(each.folder.name, each.version) for each in found] == [
        ("cpu,cpuacct", 1),
        ("cpuset", 1),
        ("unified", 2),
    ]
    assert "cpuset" in found[1].controllers


def test_two_sandboxes_have_two_groups_and_one_keeps_its_own(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"

    assert cgroups.sandbox_group(first) == cgroups.sandbox_group(tmp_path / "." / "a")
    assert cgroups.sandbox_group(first) != cgroups.sandbox_group(second)


def test_a_new_v1_cpuset_may_use_what_its_parent_may(tmp_path: Path) -> None:
    (tmp_path / "cpuset.cpus").write_text("0-7\n")
    (tmp_path / "cpuset.mems").write_text("0-1\n")

    cgroups.make("/sandbox/node", [Hierarchy(tmp_path, 1, frozenset({"cpuset"}))])

    assert (tmp_path / "sandbox" / "node" / "cpuset.cpus").read_text() == "0-7\n"
    assert (tmp_path / "sandbox" / "node" / "cpuset.mems").read_text() == "0-1\n"


def test_a_v2_group_hands_its_controllers_down(tmp_path: Path) -> None:
    top, node = tmp_path, tmp_path / "sandbox" / "node"
    node.mkdir(parents=True)
    for folder in (top, node.parent, node):
        (folder / "cgroup.controllers").write_text("cpu memory misc\n")
        (folder / "cgroup.subtree_control").write_text("cpu\n" if folder == top else "cpu memory\n")

    cgroups.make("/sandbox/node", [Hierarchy(top, 2, frozenset())])

    assert (top / "cgroup.subtree_control").read_text() == "+memory"
    assert (node / "cgroup.subtree_control").read_text() == "cpu memory\n"


def test_removes_a_group_with_all_below_it_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "sandbox" / "node" / "kubepods" / "pod1").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    hierarchy = Hierarchy(tmp_path, 1, frozenset())

    cgroups.remove("/sandbox", [hierarchy])
    cgroups.remove("/sandbox", [hierarchy])

    assert [path.name for path in tmp_path.iterdir()] == ["other"]
