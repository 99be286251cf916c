"""Counts what was written to the API server, by kind, from the server's own counters.

Invariant: every write counts, whatever came of it, by whomever; kinds that the workspace controller
never writes are left out, and so are leases, which every controller renews.
"""

import asyncio
import os
import re
from collections import Counter
from pathlib import Path
from typing import Final

from sandbox import tools
from sandbox.errors import SandboxError

KINDS: Final = frozenset(
    {
        "workspaces",
        "workspaces/status",
        "machines",
        "nodeclaims",
        "nodes",
        "deployments",
        "statefulsets",
        "services",
        "jobs",
        "configmaps",
        "secrets",
        "events",
    }
)
_VERBS: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_LINE: Final = re.compile(r"apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


async def writes(kubeconfig: Path) -> Counter[str]:
    """The writes so far, by kind.

    Raises:
        SandboxError: the API server did not show its counters.
    """
    kubectl = await asyncio.create_subprocess_exec(
        str(tools.binaries() / "kubectl"),
        *("get", "--raw", "/metrics"),
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    shown, complaint = await kubectl.communicate()
    if kubectl.returncode:
        raise SandboxError(f"the API server's counters: {complaint.decode().strip()}")
    return counted(shown.decode())


def counted(text: str) -> Counter[str]:
    """The writes in a page of the API server's metrics."""
    found: Counter[str] = Counter()
    for line in _LINE.finditer(text):
        about = dict(_LABEL.findall(line["labels"]))
        part = about.get("subresource", "")
        kind = about.get("resource", "") + (f"/{part}" if part else "")
        if about.get("verb") in _VERBS and kind in KINDS and not about.get("dry_run"):
            found[kind] += int(float(line["value"]))
    return found
