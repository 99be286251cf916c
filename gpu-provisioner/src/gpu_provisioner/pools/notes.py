"""Writes on many claims at once, each guarded by the version that was decided on.

Invariant: a claim that has changed meanwhile is left as it is; what was written shows in the roster
before anything else is decided.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from controlkit.errors import ControlError, NotFound, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Resource
from gpu_provisioner.claims.claim import Claim, Kind
from gpu_provisioner.pools.roster import Roster
from gpuapis.labels import ASSIGNED_NODE, ASSIGNED_POOL, PROVISION_STARTED

AT_ONCE = 16
"""Writes that are under way together: enough to be quick, few enough not to crowd out others."""

Entries = Mapping[str, str | None]


class Notes:
    """Writes places and starts on claims."""

    def __init__(
        self, client: KubeClient, roster: Roster, resources: Mapping[Kind, Resource]
    ) -> None:
        self._client = client
        self._roster = roster
        self._resources = resources

    async def assign(self, claims: Iterable[Claim], pool: str, at: datetime) -> list[Claim]:
        """Gives claims their place, and marks the start; returns those that have it.

        Raises:
            ControlError: the API server could not be asked.
        """
        return await self._write(claims, {ASSIGNED_POOL: pool}, {PROVISION_STARTED: _stamp(at)})

    async def adopt(self, claims: Iterable[Claim], pool: str) -> list[Claim]:
        """Gives claims their place in a pool that was made for them earlier."""
        return await self._write(claims, {ASSIGNED_POOL: pool}, {})

    async def mark(self, claims: tuple[Claim, ...], pool: str, at: datetime) -> None:
        """Marks the start anew.

        Raises:
            ControlError: it could not be written on each of them.
        """
        written = await self.assign(claims, pool, at)
        if len(written) < len(claims):
            raise Stale("ClaimChanged", f"claims of pool {pool} have changed meanwhile")

    async def unassign(self, claims: Iterable[Claim]) -> list[Claim]:
        """Takes claims' places away."""
        none: Entries = {PROVISION_STARTED: None, ASSIGNED_NODE: None}
        return await self._write(claims, {ASSIGNED_POOL: None}, none)

    async def _write(
        self, claims: Iterable[Claim], labels: Entries, annotations: Entries
    ) -> list[Claim]:
        gate, written = asyncio.Semaphore(AT_ONCE), list[Claim]()

        async def write(claim: Claim) -> None:
            async with gate:
                if await self.write(claim, labels, annotations):
                    written.append(claim)

        try:
            async with asyncio.TaskGroup() as group:
                for claim in claims:
                    group.create_task(write(claim))
        except* ControlError as errors:
            raise errors.exceptions[0] from errors
        return written

    async def write(self, claim: Claim, labels: Entries, annotations: Entries) -> bool:
        """Writes on one claim; returns False when it has changed meanwhile, or is gone.

        Raises:
            ControlError: the API server could not be asked.
        """
        guarded = {
            "labels": dict(labels),
            "annotations": dict(annotations),
            "resourceVersion": claim.version,
        }
        resource = self._resources[claim.kind]
        try:
            told = await self._client.merge_patch(resource, claim.key, {"metadata": guarded})
        except (Stale, NotFound):
            return False
        self._roster.wrote(claim, told.resource_version, labels=labels, annotations=annotations)
        return True


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
