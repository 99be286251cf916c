"""Applies the charts' CustomResourceDefinitions to an API server without Helm.

The CRDs count as applied only when the API server serves them.
"""

import asyncio
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from sandbox.controlplane.admin import Admin, AdminError

CHARTS = Path(__file__).resolve().parents[3] / "charts"
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_SERVED_SECONDS = 20.0


async def apply_crds(admin: Admin, charts: Path = CHARTS) -> list[str]:
    """Applies every CRD of the charts and returns their names once all are served.

    Raises:
        FileNotFoundError: the charts hold no CRD.
        AdminError: the API server refused one, or did not serve it in time.
    """
    manifests = read(charts)
    if not manifests:
        raise FileNotFoundError(f"no CRDs in {charts}/*/templates/crds/; run `make manifests`")
    for manifest in manifests:
        await admin.apply(f"{_PATH}/{manifest['metadata']['name']}", manifest)
    for manifest in manifests:
        await _served(admin, manifest["spec"])
    return [manifest["metadata"]["name"] for manifest in manifests]


def read(charts: Path) -> list[dict[str, Any]]:
    """Reads all CRDs from chart templates whose only template lines are an on/off switch."""
    manifests: list[dict[str, Any]] = []
    for path in sorted(charts.glob("*/templates/crds/*.yaml")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("{{")]
        manifests += [each for each in yaml.safe_load_all("\n".join(lines)) if each]
    return manifests


async def _served(admin: Admin, spec: dict[str, Any]) -> None:
    """Waits until objects can be listed: a CRD says Established a moment before that."""
    deadline = time.monotonic() + _SERVED_SECONDS
    for version in spec["versions"]:
        path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}?limit=1"
        while version["served"]:
            try:
                await admin.call("GET", path)
                break
            except AdminError as error:
                if error.status != HTTPStatus.NOT_FOUND or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.02)
