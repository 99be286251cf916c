"""One pass over one Workspace: observe, decide, carry out, report.

Invariant: a pass blocks on nothing but its own calls to the API server, and says in the status
what it could not do.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import structlog

from controlkit.controller import Controller, Result
from controlkit.errors import Blocked, ControlError, Rejected, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, KubeObject
from gpuapis import labels
from gpuapis.core import Node
from gpuapis.workspace import Workspace
from workspace_controller.caches import ADAPTS, SHORT, UID, Caches, is_free
from workspace_controller.claims.dialects import VIEWS, kind_of
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.adopting import suits
from workspace_controller.workspaces.composing import Particulars
from workspace_controller.workspaces.execute import Executor
from workspace_controller.workspaces.facts import (
    Action,
    ApplyChild,
    Finding,
    RemoveChild,
    Report,
    Scale,
    StartRun,
    Vet,
    VetRun,
)
from workspace_controller.workspaces.observe import Observer, Sight
from workspace_controller.workspaces.plan import decide
from workspace_controller.workspaces.status import Reporter

log = structlog.get_logger(__name__)

NOT_ASKED_FOR = Finding(
    "pending",
    reasons.RESOURCE_PENDING,
    "no node is asked for as long as the API server would refuse the pods: see InferenceReady",
)
TAKERS = 10
"""How many Workspaces look at a node that came free; the others look at their next turn."""
PATIENCE = 3
"""Passes that may fail in a row for a passing cause before the person is told."""


@dataclass(frozen=True)
class WorkspacePass:
    """What `reconcile` needs, besides the key."""

    client: KubeClient
    caches: Caches
    observer: Observer
    executor: Executor
    reporter: Reporter

    async def reconcile(self, key: Key, failures: int) -> Result:
        """One pass; `failures` is the number of passes on this key that failed just before.

        Raises:
            ControlError: something was refused; the queue decides when to try again.
        """
        workspace = self.caches.workspaces.get(key)
        if workspace is None:
            await self._sweep(key)
            return Result()
        try:
            return await self._pass(workspace, failures)
        except ControlError:
            raise
        except Exception as bug:  # a door for bugs: told to the person, left to the queue
            if failures + 1 >= PATIENCE:
                await self._admit(workspace, bug)
            raise

    async def _pass(self, workspace: Workspace, failures: int) -> Result:
        sight = await self._look(workspace, failures)
        plan = decide(sight.seen)
        for action in plan.actions:
            try:
                await self.executor.carry_out(workspace, sight, action)
            except ControlError as error:
                told = isinstance(error, Blocked) or failures + 1 >= PATIENCE
                if told and plan.report is not None and not isinstance(error, Stale):
                    setback = with_setback(plan.report, action, error)
                    await self._report(workspace, sight, setback)
                raise
        untold = await self._report(workspace, sight, plan.report)
        alarms = [alarm for alarm in (plan.look_again, untold) if alarm is not None]
        return Result(after=min(alarms, default=None))

    async def _look(self, workspace: Workspace, failures: int) -> Sight:
        try:
            return await self.observer.observe(workspace)
        except Stale:
            raise
        except ControlError as error:
            lasting = isinstance(error, Blocked | Rejected)
            if lasting or failures + 1 >= PATIENCE:
                await self._tell(workspace, in_the_dark(workspace, error))
            if isinstance(error, Rejected):  # no edit of the Workspace need be the cure
                raise Blocked(error.reason, error.message) from error
            raise

    async def _tell(self, workspace: Workspace, report: Report) -> None:
        """Reports what is known without a look; how that ends changes nothing for the pass."""
        with suppress(ControlError):  # what stopped the pass is what must reach the queue
            unchanged = Particulars(workspace.status.phases, workspace.status.phases)
            await self.reporter.report(workspace, report, self.observer.now(), unchanged)

    async def _report(
        self, workspace: Workspace, sight: Sight, report: Report | None
    ) -> float | None:
        """Seconds after which there is more to tell; None when all is told."""
        if report is None:
            return None
        return await self.reporter.report(workspace, report, sight.seen.now, sight.particulars)

    async def _admit(self, workspace: Workspace, bug: Exception) -> None:
        """Says that we, not the Workspace, have failed; how it does is not known any more."""
        report = Report(
            workspace=Finding(
                "unknown",
                reasons.INTERNAL_ERROR,
                f"the controller failed by a bug of its own ({type(bug).__name__}), so nothing is "
                "done for this Workspace. Its log has the details; what serves goes on serving.",
            ),
            unseen=True,
        )
        await self._tell(workspace, report)

    async def _sweep(self, key: Key) -> None:
        """Deletes claims whose Workspace is gone, should somebody have stripped its finalizer."""
        mine = [
            claim
            for claim in self.caches.claims_of(str(key))
            if labels.WORKSPACE_UID in claim.metadata.annotations and not claim.deleting
        ]
        if not mine or await self.client.get(Workspace, key) is not None:
            return
        for claim in mine:
            resource = VIEWS[kind_of(claim)].RESOURCE
            await self.client.delete(resource, claim.key, uid=claim.metadata.uid)
            log.warning("claim without a Workspace deleted", claim=claim.metadata.name)


def in_the_dark(workspace: Workspace, error: ControlError) -> Report:
    """The report of a pass that could not see how things are: what was said of parts stands."""
    if workspace.deleting:
        ending = Finding("pending", reasons.DELETED, "the Workspace is being deleted")
        held_up = Finding("bad", error.reason, error.message)
        return Report(
            workspace=ending, resource=ending, inference=ending, deleting=held_up, unseen=True
        )
    said = (
        f"how this Workspace does could not be seen, and nothing is done for it: {error.message}. "
        "What serves goes on serving."
    )
    return Report(workspace=Finding("unknown", error.reason, said), unseen=True)


def with_setback(report: Report, action: Action, error: ControlError) -> Report:
    """The report of a pass that was cut short at an action: the setback speaks for its stage.

    What passes says nothing about how a Workspace does, which may well be serving. What the plan
    would have recorded of its claims is left out, for not all of it came about.
    """
    lasting = isinstance(error, Blocked)
    finding = Finding("bad" if lasting else "unknown", error.reason, error.message)
    if report.deleting is not None:
        return replace(report, deleting=finding)
    if report.run is not None and report.run.result is not None:
        # How the run ended stays true, whatever holds up the end of its node.
        return replace(report, resource=finding, claims_gone=False, nodes=None, records=None)
    serving = isinstance(action, ApplyChild | RemoveChild | Scale | StartRun)
    if isinstance(action, Vet | VetRun):
        report = replace(report, claims=None, records=None, resource=NOT_ASKED_FOR)
        serving = True
    whole = Finding(
        finding.outlook,
        reasons.FAILED if lasting else reasons.PENDING,
        finding.message,
    )
    return Report(
        workspace=whole,
        claims=report.claims if serving else None,
        claim_kind=report.claim_kind,
        resource=report.resource if serving else finding,
        inference=finding if serving else report.inference,
        nodes=report.nodes,
        records=report.records if serving else None,
        started=report.started,
        state=report.state,
        run=report.run,
        attempts=report.attempts if serving else None,
    )


def watch_everything(controller: Controller, caches: Caches) -> None:
    """Wakes a Workspace when anything that its pass reads has changed."""
    controller.watch(caches.workspaces, _itself)
    controller.watch(caches.jobs, _itself)
    controller.watch(caches.machines, _owner)
    controller.watch(caches.nodeclaims, _owner)
    controller.watch(caches.pods, _namesake)
    controller.watch(caches.deployments, _itself)
    controller.watch(caches.stateful_sets, _itself)
    controller.watch(caches.services, _namesake)

    def servers(tuned: Workspace) -> Iterable[Key]:
        """The Workspaces that serve what this one tunes; they wait for its success."""
        return (each.key for each in caches.workspaces.by_index(ADAPTS, str(tuned.key)))

    controller.watch(caches.workspaces, servers)

    def users(node: Node) -> Iterable[Key]:
        return _users(caches, node)

    controller.watch(caches.nodes, users)


def _itself(found: KubeObject) -> Iterable[Key]:
    yield found.key


def _namesake(found: KubeObject) -> Iterable[Key]:
    """The Workspace that a namespaced object names; the object itself may be named otherwise."""
    yield Key(found.metadata.namespace, found.metadata.labels[labels.WORKSPACE])


def _owner(found: KubeObject) -> Iterable[Key]:
    marks = found.metadata.labels
    if labels.WORKSPACE in marks and labels.WORKSPACE_NAMESPACE in marks:
        yield Key(marks[labels.WORKSPACE_NAMESPACE], marks[labels.WORKSPACE])


def _users(caches: Caches, node: Node) -> Iterable[Key]:
    """The Workspaces that a node serves: by its own labels, by a claim, by a reservation."""
    yield from _owner(node)
    for claim in caches.claims_on(node.metadata.name):
        yield from _owner(claim)
    holder = node.metadata.labels.get(labels.RESERVED_FOR, "")
    living = caches.workspaces.by_index(UID, holder)
    yield from (workspace.key for workspace in living)
    if not living and is_free(node):
        yield from _takers(caches, node)


def _takers(caches: Caches, node: Node) -> Iterable[Key]:
    """Those who have waited longest for a node like this; one of them gets it."""
    waiting = sorted(
        caches.workspaces.by_index(SHORT, SHORT),
        key=lambda each: (str(each.metadata.creation_timestamp), each.key),
    )
    suited = (each.key for each in waiting if suits(node, each.resource.label_selector))
    yield from islice(suited, TAKERS)
