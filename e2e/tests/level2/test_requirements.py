import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import SandboxError
from sandbox.nodes.kubelet import requirements as module


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has no program at all; put some into the folder returned."""
    monkeypatch.setattr(module, "_path", lambda: str(tmp_path))
    monkeypatch.setattr(module, "POLICY", tmp_path / "policy-rc.d")
    return tmp_path


def _put(folder: Path, program: str) -> None:
    (folder / program).write_text("#!/bin/sh\n")
    (folder / program).chmod(0o755)


def test_names_every_package_of_a_bare_machine(bare_machine: Path) -> None:
    missing = module.prerequisites()

    assert {"buildah", "containerd", "mmdebstrap", "nftables", "runc"} <= set(missing)


def test_does_not_name_what_is_there(bare_machine: Path) -> None:
    _put(bare_machine, "runc")

    assert "runc" not in module.prerequisites()


def test_says_that_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert "root" in module.obstacles()[0]


def test_a_failed_installation_shows_what_apt_said(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(argv: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(argv, 100, "", "E: Unable to locate package buildah\n")

    monkeypatch.setattr(subprocess, "run", fail)
    said: list[str] = []

    with pytest.raises(SandboxError, match="Unable to locate package buildah"):
        module.install_packages(said.append)
    assert "buildah" in said[0]


def test_nothing_is_installed_when_nothing_is_missing(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/bin/x")
    said: list[str] = []

    module.install_packages(said.append)

    assert said == []


def test_no_package_starts_its_service(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies: list[bool] = []

    def install(argv: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        policies.append("exit 101" in module.POLICY.read_text())
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(subprocess, "run", install)
    module.install_packages(lambda _: None)

    assert policies == [True]
    assert not module.POLICY.exists()
