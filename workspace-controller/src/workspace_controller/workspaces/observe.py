"""Reads all that one pass needs to know, once, into one flat value.

Invariant: everything comes from the caches, with two exceptions that are asked of the API server:
the claims of a Workspace that is about to be let go, because a cache may be late and a node costs
money; and ConfigMaps and Events, which are not cached.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from controlkit.errors import Blocked, NotFound, Rejected
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, metadata_only
from gpuapis import labels
from gpuapis.core import Deployment, Node, Pod, StatefulSet
from gpuapis.workspace import Workspace
from workspace_controller.caches import OWNER, RESERVED, Caches
from workspace_controller.claims.dialects import VIEWS, AnyClaim, read
from workspace_controller.manifests.model import Model
from workspace_controller.manifests.ownership import (
    owner_labels,
)
from workspace_controller.manifests.service import load_balanced, service_digest
from workspace_controller.manifests.workload import workload_digest
from workspace_controller.tuning.observe import RunObserver
from workspace_controller.workspaces import facts, reasons
from workspace_controller.workspaces.adopting import adoptable
from workspace_controller.workspaces.children import as_it_runs, child_of
from workspace_controller.workspaces.children import children as all_children
from workspace_controller.workspaces.composing import Particulars
from workspace_controller.workspaces.facts import (
    Attempt,
    ClaimApi,
    ClaimKind,
    Deadlines,
    Observed,
    Problem,
    Serving,
    SlotRecord,
)
from workspace_controller.workspaces.phases import phases, with_ready
from workspace_controller.workspaces.pods import busy_with, troubles
from workspace_controller.workspaces.sources import SourceReader, Sources
from workspace_controller.workspaces.target import Knowledge, Target, resolve
from workspace_controller.workspaces.unstarted import EventReader
from workspace_controller.workspaces.vetting import Vetting, written_by_user


@dataclass(frozen=True)
class Sight:
    """What a pass decides on, and what it needs beside that to act and to report."""

    seen: Observed
    target: Target | None
    """None when the Workspace cannot be served."""
    model: Model | None
    """What is to be served, with all that it refers to; None with `target`."""
    particulars: Particulars


@dataclass(frozen=True)
class Observer:
    """Sees the cluster for one pass at a time."""

    client: KubeClient
    caches: Caches
    knowledge: Knowledge
    claim_api: ClaimApi
    sources: SourceReader
    vetting: Vetting
    events: EventReader
    now: Callable[[], datetime]
    runs: RunObserver
    deadlines: Deadlines

    async def observe(self, workspace: Workspace) -> Sight:
        """All that is known of a Workspace now."""
        now = self.now()
        target = resolve(workspace, self.knowledge, now.date())
        claims, live = await self._claims(workspace)
        reserved = self.caches.nodes.by_index(RESERVED, workspace.metadata.uid)
        pods = self.caches.pods.by_index(OWNER, str(workspace.key))
        unstarted = await self.events.explain(pods)
        served = target if isinstance(target, Target) else None
        model, sources, awaits = await self._wish(workspace, served)
        children = all_children(self.caches, workspace, model, frozen=awaits is not None)
        seen = Observed(
            now=now,
            uid=workspace.metadata.uid,
            deleting_since=workspace.metadata.deletion_timestamp,
            held=labels.WORKSPACE_FINALIZER in workspace.metadata.finalizers,
            problem=target if isinstance(target, Problem) else None,
            awaits=awaits,
            vetted=model is None or self._vetted(workspace, model),
            look_again=_sooner(sources.look_again, unstarted.look_again),
            deadlines=self.deadlines,
            wanted=workspace.resource.count,
            instance_type=served.instance_type if served is not None else "",
            gpus=served.gpus if served is not None else 1,
            claim_kind=self._claim_kind(),
            byo=self.knowledge.byo,
            claims=tuple(read(claim, workspace.metadata.uid) for claim in claims),
            claims_are_live=live,
            nodes=self._nodes(claims, reserved, pods),
            reserved=tuple(sorted(node.metadata.name for node in reserved if not node.deleting)),
            adoptable=adoptable(self.caches, workspace, served, byo=self.knowledge.byo),
            records=_records(workspace),
            attempts=_attempts(workspace),
            children=children,
            serving=_serving(self._workload(workspace.key)),
            pods=troubles(pods, unstarted.troubles),
            loading=busy_with(pods),
            once_ready=workspace.status.state in ("Ready", "NotReady"),
            address=self._address(workspace, model) if model is not None else "",
        )
        if workspace.tuning is not None:
            seen = await self._with_run(workspace, seen, pods)
        return Sight(seen, served, model, _particulars(workspace, seen, pods, served))

    async def _wish(
        self, workspace: Workspace, target: Target | None
    ) -> tuple[Model | None, Sources, Problem | None]:
        """What is to be served, what that was made of, and what of it is not there yet."""
        if target is None or workspace.inference is None:
            return None, Sources(), None
        sources = Sources() if workspace.deleting else await self.sources.find(workspace)
        model = self._model(workspace, target, sources)
        return model, sources, sources.missing or self._untuned(workspace, model, sources)

    async def _with_run(self, workspace: Workspace, seen: Observed, pods: list[Pod]) -> Observed:
        """What is seen of a tuning Workspace: it has a run in place of a served model."""
        job = child_of("Job", self.caches.jobs.get(workspace.key), workspace)
        run = None if workspace.deleting else await self.runs.observe(workspace)
        at_work = [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")]
        return replace(
            seen,
            wanted=1,
            children=(job,),
            pods=troubles(at_work),
            loading=busy_with(at_work),
            vetted=run is None or self._run_vetted(workspace, run.wanted),
            tuning=run,
        )

    def _run_vetted(self, workspace: Workspace, run: str) -> bool:
        """Only what the user wrote without a schema of ours needs the API server's word."""
        assert workspace.tuning is not None
        data, result = workspace.tuning.input, workspace.tuning.output
        checked = data.volume_source is None and result.volume_source is None
        return checked or self.vetting.has_passed(workspace, run)

    def _model(self, workspace: Workspace, target: Target, sources: Sources) -> Model:
        model = Model(
            preset=target.preset,
            nodes=target.nodes,
            gpus=target.pod_gpus,
            engine=target.engine,
            memory_percent=target.memory_percent,
            adapters=sources.adapters,
            config=sources.config,
        )
        return as_it_runs(self.caches, workspace, model)

    def _untuned(
        self, workspace: Workspace, model: Model | None, sources: Sources
    ) -> Problem | None:
        """What an adapter lacks; nothing where the workload runs from this very wish.

        It has the image that was there when it was made, whatever becomes of the Workspace that
        tuned it: gone, failed or under way again.
        """
        running = self._workload(workspace.key)
        if model is None or sources.untuned is None or running is None:
            return sources.untuned
        carried = running.metadata.annotations.get(labels.SPEC_HASH)
        return None if carried == workload_digest(workspace, model) else sources.untuned

    def _vetted(self, workspace: Workspace, model: Model) -> bool:
        """Whether the API server can be trusted to take the workload."""
        if not written_by_user(model):
            return True
        digest = workload_digest(workspace, model)
        running = self._workload(workspace.key)
        carried = running.metadata.annotations.get(labels.SPEC_HASH) if running else None
        return carried == digest or self.vetting.has_passed(workspace, digest)

    def _workload(self, key: Key) -> Deployment | StatefulSet | None:
        return self.caches.deployments.get(key) or self.caches.stateful_sets.get(key)

    def _address(self, workspace: Workspace, model: Model) -> str:
        """Where the model answers, in a sentence."""
        if not service_digest(workspace, model):
            return "the pods are ready"
        inside = f"http://{workspace.key.name}.{workspace.key.namespace}.svc"
        if not load_balanced(workspace):
            return f"the model answers at {inside}"
        found = self.caches.services.get(workspace.key)
        ways = found.status.load_balancer.ingress if found is not None else ()
        outside = ", ".join(f"http://{each.hostname or each.ip}" for each in ways)
        return f"the model answers at {inside}, and from outside the cluster " + (
            f"at {outside}" if outside else "when the cloud has made the load balancer"
        )

    def _claim_kind(self) -> ClaimKind | None:
        """The kind of claim to create: what is configured, as far as it is served."""
        kinds: tuple[tuple[ClaimKind, bool], ...] = (
            ("Machine", self.caches.machines.served and self.claim_api in ("auto", "machine")),
            (
                "NodeClaim",
                self.caches.nodeclaims.served and self.claim_api in ("auto", "nodeclaim"),
            ),
        )
        return next((kind for kind, usable in kinds if usable), None)

    async def _claims(self, workspace: Workspace) -> tuple[list[AnyClaim], bool]:
        """The claims, and whether the API server was asked: before the end, no cache will do."""
        cached: list[AnyClaim] = self.caches.claims_of(str(workspace.key))
        if cached or not workspace.deleting:
            return cached, False
        return await self._live_claims(workspace), True

    async def _live_claims(self, workspace: Workspace) -> list[AnyClaim]:
        """The claims that the API server has.

        They are listed by their metadata alone: a list leaves out what does not fit a view, and a
        claim that we cannot read costs money like any other.

        Raises:
            Blocked: a claim cannot be read; it has to go before the Workspace can.
        """
        selector = ",".join(f"{key}={value}" for key, value in owner_labels(workspace).items())
        found: list[AnyClaim] = []
        for view in VIEWS.values():
            try:
                listing = await self.client.list(
                    metadata_only(view.RESOURCE), label_selector=selector
                )
            except NotFound:
                continue  # the cluster does not serve this kind, so there is none
            for item in listing.items:
                claim = await self._live_claim(view, item.key)
                if claim is not None:
                    found.append(claim)
        return found

    async def _live_claim(self, view: type[AnyClaim], key: Key) -> AnyClaim | None:
        try:
            claim: AnyClaim | None = await self.client.get(view, key)
        except Rejected as error:
            raise Blocked(
                reasons.CLAIM_UNREADABLE,
                f"{view.RESOURCE.kind} {key.name} of this Workspace cannot be read "
                f"({error.message}). Delete it, or put it right.",
                retry_after=60.0,
            ) from error
        return claim

    def _nodes(
        self, claims: Iterable[AnyClaim], reserved: list[Node], pods: list[Pod]
    ) -> dict[str, facts.Node]:
        named = (
            self.caches.nodes.get(Key("", claim.status.node_name))
            for claim in claims
            if claim.status.node_name
        )
        mine = [*(node for node in named if node is not None and not node.deleting), *reserved]
        living = Counter(pod.spec.node_name for pod in pods if not pod.deleting)
        return {node.metadata.name: _node(node, living[node.metadata.name]) for node in mine}


def _sooner(*alarms: float | None) -> float | None:
    return min((alarm for alarm in alarms if alarm is not None), default=None)


def _serving(found: Deployment | StatefulSet | None) -> Serving:
    if found is None:
        return Serving()
    refusals = [
        condition.message
        for condition in found.status.conditions
        if condition.type == "ReplicaFailure" and condition.status == "True"
    ]
    return Serving(
        asked=found.spec.replicas,
        present=found.status.replicas,
        ready=found.status.ready_replicas,
        updated=found.status.updated_replicas,
        current=found.status.observed_generation >= found.metadata.generation,
        refusal=next(iter(refusals), ""),
    )


def _node(node: Node, pods: int) -> facts.Node:
    ready = next((c for c in node.status.conditions if c.type == "Ready"), None)
    said = "its kubelet has not reported yet"
    if ready is not None:
        said = ": ".join(part for part in (ready.reason, ready.message) if part)
    pressures = [
        condition.type
        for condition in node.status.conditions
        if condition.type.endswith("Pressure") and condition.status == "True"
    ]
    return facts.Node(
        name=node.metadata.name,
        ready=node.ready,
        gpus=node.allocatable(labels.GPU_RESOURCE),
        labelled=labels.ACCELERATOR in node.metadata.labels,
        trouble="; ".join((said, *pressures)),
        pods=pods,
    )


def _records(workspace: Workspace) -> tuple[SlotRecord, ...]:
    return tuple(
        SlotRecord(
            slot=slot.slot,
            claim=slot.claim,
            attempt=slot.attempt,
            failures=slot.failures,
            lost_at=slot.lost_at,
            retries=slot.retries or 0,
            failing=slot.failing or False,
            reason=slot.reason or "",
            message=slot.message or "",
        )
        for slot in workspace.status.slots
    )


def _particulars(
    workspace: Workspace, seen: Observed, pods: list[Pod], target: Target | None
) -> Particulars:
    created = workspace.metadata.creation_timestamp or seen.now
    done = phases(created, seen.claims, pods)
    return Particulars(
        phases=done,
        finished=with_ready(done, created, pods, seen.now),
        instance_type=target.instance_type if target is not None else "",
        chosen_because=target.chosen_because if target is not None else "",
    )


def _attempts(workspace: Workspace) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            slot=each.slot,
            claim=each.claim,
            sku=each.sku or "",
            started_at=each.started_at,
            ended_at=each.ended_at,
            reason=each.reason or "",
            message=each.message or "",
        )
        for each in workspace.status.attempts
    )
