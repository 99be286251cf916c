"""Offers the sandbox to pytest: a real API server for the session, a fresh namespace per test.

Each pytest-xdist worker has a control plane of its own, so that tests may break theirs. It is
made when the first test asks for it, and ends with the worker, whatever ends that.
"""

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # every test run loads this plugin; few of them need what it can start
    from sandbox.controlplane import ControlPlane


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that a control plane stands behind, so that none has to remember to."""
    for item in items:
        if "control_plane" in getattr(item, "fixturenames", ()):
            item.add_marker("control_plane")


@pytest.fixture(scope="session")
def control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["ControlPlane"]:
    """A real etcd and kube-apiserver; a test that stops the latter must start it again."""
    with own_plane(request.config, tmp_path_factory) as plane:
        yield plane


@contextmanager
def own_plane(
    config: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["ControlPlane"]:
    """A control plane beside the shared one, for tests that run a controller over all namespaces.

    Such a controller acts on whatever other tests have left behind.
    """
    from sandbox import tools  # noqa: PLC0415
    from sandbox.controlplane import ControlPlane  # noqa: PLC0415

    with _output_shown(config):
        tools.binaries(tools.CONTROL_PLANE)
    with asyncio.Runner() as runner:
        plane = runner.run(
            ControlPlane.launch(
                tmp_path_factory.mktemp("control-plane"), controllers=False, guarded=True
            )
        )
        yield plane
        runner.run(plane.stop(grace=0.0))


@pytest.fixture(scope="session")
def apply_crds(control_plane: "ControlPlane") -> list[str]:
    """Makes the control plane serve the CRDs of both charts; returns their names."""
    from sandbox.controlplane.crds import apply_crds as apply  # noqa: PLC0415

    return asyncio.run(apply(control_plane.admin))


@pytest.fixture
def namespace(control_plane: "ControlPlane") -> str:
    """The name of a fresh namespace, with the default ServiceAccount that Pods need.

    It stays when the test ends: without kube-controller-manager no namespace ever goes away.
    """
    return asyncio.run(_make_namespace(control_plane, f"test-{os.getpid()}-{next(_numbers)}"))


_numbers = itertools.count(1)


async def _make_namespace(plane: "ControlPlane", name: str) -> str:
    path = f"/api/v1/namespaces/{name}"
    await plane.admin.apply(
        path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    await plane.admin.apply(
        f"{path}/serviceaccounts/default",
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
    )
    return name


def _output_shown(config: pytest.Config) -> "nullcontext[None]":
    """Lets progress of a long build through to the terminal."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return nullcontext() if capture is None else capture.global_and_fixture_disabled()
