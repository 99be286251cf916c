"""Whole passes over an API server in memory: what is written, what is said, what is left alone."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from workspace_world.passes import Hands, fill, new_pass, provisioned, ready_node, sync
from workspace_world.tuning import tuning

from controlkit.cache import Cache
from controlkit.controller import Controller, Result
from controlkit.errors import Blocked, NotFound, Rejected, Stale, Transient
from controlkit.kube.objects import Key
from controlkit_testing import KeptEvents, MemoryApi
from gpuapis import labels
from gpuapis.core import ConfigMap, Deployment, Job, Node, Pod, Service, StatefulSet
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from workspace_controller.caches import Caches
from workspace_controller.skus.fit import Fit
from workspace_controller.tuning.progress import Heard
from workspace_controller.workspaces.controller import watch_everything
from workspace_controller.workspaces.facts import ClaimApi, ReleaseNodes, ReserveNode
from workspace_controller.workspaces.slots import claim_name

START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = Key("team", "phi")
UID = "u-1"
FIRST = claim_name(UID, 0, 0)
SECOND = claim_name(UID, 0, 1)
NODE = Key("", "node-0")


@dataclass
class Rig:
    """The controller's parts, without its queue: passes are made by hand."""

    claim_api: ClaimApi = "auto"
    api: MemoryApi = field(default_factory=MemoryApi)
    caches: Caches = field(default_factory=Caches)
    clock: Hands = field(default_factory=lambda: Hands(START))
    held: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        client = self.api.client("workspace-controller")
        self.told = KeptEvents(self.api)
        self.work = new_pass(
            client,
            self.caches,
            told=self.told,
            hold=self.hold,
            clock=self.clock,
            heard=Heard(),
            claim_api=self.claim_api,
        )

    @property
    def now(self) -> datetime:
        return self.clock.at

    @now.setter
    def now(self, at: datetime) -> None:
        self.clock.at = at

    def hold(self, key: Key, cache: Cache[Any], object_key: Key, version: str) -> None:
        assert version
        self.held.append(object_key)

    def create(self, **changes: Any) -> None:
        manifest = {
            "metadata": {
                "name": KEY.name,
                "namespace": KEY.namespace,
                "uid": UID,
                "creationTimestamp": START.isoformat(),
            },
            "resource": {
                "instanceType": "Standard_NC6s_v3",
                "labelSelector": {"matchLabels": {"apps": "phi"}},
            },
            "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
        }
        self.api.put(Workspace.RESOURCE, manifest | changes)

    def sync(self) -> None:
        """Brings the caches up to date, as reflectors would."""
        caches = self.caches
        kept: tuple[Cache[Any], ...] = (
            *(caches.workspaces, caches.machines, caches.nodeclaims, caches.nodes),
            *(caches.deployments, caches.stateful_sets, caches.services),
            *(caches.pods, caches.jobs),
        )
        sync(self.api, kept, self.now)

    def sync_without(self, view: type[Machine]) -> None:
        """As `sync`, where a reflector cannot read the objects of one kind."""
        unread = self.api.all(view.RESOURCE)
        for found in unread:
            self.api.remove(view.RESOURCE, Key("", found["metadata"]["name"]))
        self.sync()
        for found in unread:
            self.api.put(view.RESOURCE, found)

    async def reconcile(self, failures: int = 0) -> Result:
        self.sync()
        return await self.work.reconcile(KEY, failures)

    async def settle(self, passes: int = 4) -> None:
        for _ in range(passes):
            await self.reconcile()

    def get(self, resource: Any, key: Key = KEY) -> dict[str, Any]:
        found = self.api.see(resource, key)
        assert found is not None, key
        return found

    def conditions(self) -> dict[str, tuple[str, str]]:
        status = self.get(Workspace.RESOURCE).get("status") or {}
        return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", [])}

    def provision(self, name: str = FIRST, node: str = NODE.name) -> None:
        """Makes the claim's node."""
        claim = self.get(Machine.RESOURCE, Key("", name))
        self.api.put(Machine.RESOURCE, provisioned(claim, node, self.now))
        self.make_node(node, claim["metadata"]["labels"])

    def make_node(self, name: str, marks: dict[str, str], **status: Any) -> None:
        self.api.put(Node.RESOURCE, ready_node(name, marks, **status))

    def pods_ready(self, count: int = 1) -> None:
        found = self.get(Deployment.RESOURCE)
        found["status"] = {
            "observedGeneration": 99,
            "replicas": count,
            "readyReplicas": count,
            "updatedReplicas": count,
        }
        self.api.put(Deployment.RESOURCE, found)

    def message(self, kind: str) -> str:
        """What a condition says."""
        conditions = self.get(Workspace.RESOURCE)["status"]["conditions"]
        return str(next(c["message"] for c in conditions if c["type"] == kind))

    async def spread(self) -> None:
        """Brings a Workspace whose model needs both of its nodes to its StatefulSet."""
        self.create(inference=BIG, resource=PAIR)
        await self.settle(2)
        for slot in range(2):
            self.provision(claim_name(UID, slot, 0), f"node-{slot}")
        await self.settle(2)

    async def serve(self, **changes: Any) -> None:
        """Brings the Workspace to Ready."""
        self.create(**changes)
        await self.settle(2)
        self.provision()
        await self.settle(2)
        self.pods_ready()
        await self.settle(2)
        assert self.conditions()["WorkspaceReady"] == ("True", "workspaceReady")

    def delete(self) -> None:
        found = self.get(Workspace.RESOURCE)
        found["metadata"]["deletionTimestamp"] = self.now.isoformat()
        self.api.put(Workspace.RESOURCE, found)


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_one_pass_holds_buys_and_says(rig: Rig) -> None:
    rig.create()
    await rig.reconcile()

    found = rig.get(Workspace.RESOURCE)
    assert found["metadata"]["finalizers"] == [labels.WORKSPACE_FINALIZER]
    assert rig.get(Machine.RESOURCE, Key("", FIRST))
    assert rig.conditions() == {
        "MachineReady": ("Unknown", "CreateMachinePending"),
        "ResourceReady": ("False", "CreateMachinePending"),
        "InferenceReady": ("False", "WorkspaceInferenceStatusPending"),
        "WorkspaceReady": ("False", "workspacePending"),
        "WorkspaceSucceeded": ("False", "workspacePending"),
    }
    assert found["status"]["slots"] == [{"slot": 0, "claim": FIRST, "attempt": 0, "failures": 0}]
    assert found["status"]["targetNodeCount"] == 1
    assert set(rig.held) == {KEY, Key("", FIRST)}


async def test_the_whole_way_to_ready_and_back(rig: Rig) -> None:
    await rig.serve()
    status = rig.get(Workspace.RESOURCE)["status"]
    assert status["state"] == "Ready"
    assert status["workerNodes"] == [NODE.name]
    assert [phase["name"] for phase in status["phases"]] == [
        "claim",
        "launch",
        "join",
        "gpu",
        "ready",
        "total",
    ]
    assert rig.get(Node.RESOURCE, NODE)["metadata"]["labels"][labels.ACCELERATOR] == "nvidia"
    reasons = [reason for _, reason, _ in rig.told.said]
    assert reasons == [
        "MachineCreated",
        "workspaceResourceStatusSuccess",
        "WorkspaceInferenceStatusSuccess",
    ]

    rig.pods_ready(0)
    await rig.settle()
    assert rig.conditions()["WorkspaceReady"] == ("False", "workspacePending")
    assert rig.get(Workspace.RESOURCE)["status"]["state"] == "NotReady"
    assert rig.get(Workspace.RESOURCE)["status"]["phases"] == status["phases"]


async def test_a_pass_with_nothing_new_writes_nothing(rig: Rig) -> None:
    await rig.serve()
    before = len(rig.api.calls)
    rig.now += timedelta(minutes=1)
    await rig.settle()
    assert rig.api.calls[before:] == []


def writes(rig: Rig) -> int:
    """Writes of a Workspace's status so far."""
    return sum(verb == "PATCH" and path.endswith("/status") for verb, path, *_ in rig.api.calls)


def launching(rig: Rig, reason: str, message: str, status: str = "Unknown") -> None:
    claim = rig.get(Machine.RESOURCE, Key("", FIRST))
    launched = {"type": "MachineLaunched", "status": status, "reason": reason, "message": message}
    launched["lastTransitionTime"] = rig.now.isoformat()
    rig.api.put(Machine.RESOURCE, claim | {"status": {"conditions": [launched]}})


async def test_steps_on_the_way_are_written_together_and_news_at_once(rig: Rig) -> None:
    rig.create()
    await rig.settle()
    assert writes(rig) == 1, "that the claim is there is no news after it was ordered"

    launching(rig, "PoolCreating", "asking")
    result = await rig.reconcile()
    assert writes(rig) == 1
    assert result.after == pytest.approx(2.0)
    launching(rig, "PoolCreating", "creating")
    rig.now += timedelta(seconds=1)
    assert (await rig.reconcile()).after == pytest.approx(1.0)
    rig.now += timedelta(seconds=1)
    await rig.reconcile()
    assert writes(rig) == 2
    assert "creating" in conditions_of(rig)["MachineReady"]["message"]

    launching(rig, "QuotaExceeded", "used up", "False")
    await rig.reconcile()
    assert writes(rig) == 3, "a failure waits for nothing"
    launching(rig, "QuotaExceeded", "used up by 6", "False")
    await rig.reconcile()
    assert "used up by 6" in conditions_of(rig)["MachineReady"]["message"]
    rig.provision()
    await rig.reconcile()
    assert rig.conditions()["ResourceReady"][0] == "True", "nor does readiness"


async def test_the_history_and_the_size_are_in_the_status(rig: Rig) -> None:
    rig.create()
    await rig.settle()
    launching(rig, "LaunchFailed", "Azure could not answer. It is tried again.", "False")
    await rig.settle(2)
    rig.now += timedelta(seconds=40)
    rig.provision()
    await rig.settle(2)
    status = rig.get(Workspace.RESOURCE)["status"]
    first, second = status["attempts"]
    assert first == {
        "slot": 0,
        "claim": FIRST,
        "sku": "Standard_NC6s_v3",
        "startedAt": "2026-01-01T00:00:00Z",
        "endedAt": "2026-01-01T00:00:00Z",
        "reason": "LaunchFailed",
        "message": "Azure could not answer.",
    }
    assert "endedAt" not in second
    assert "sku" not in status, "somebody named the size"


async def test_the_reason_for_a_chosen_size_outlives_the_choice(rig: Rig) -> None:
    rig.create(resource={"labelSelector": {"matchLabels": {"apps": "phi"}}})
    await rig.settle()
    sku = rig.get(Workspace.RESOURCE)["status"]["sku"]
    assert "cheapest" in sku["reason"]
    launching(rig, "QuotaExceeded", "used up", "False")
    await rig.settle()
    assert rig.get(Workspace.RESOURCE)["status"]["sku"] == sku


def conditions_of(rig: Rig) -> dict[str, dict[str, Any]]:
    status = rig.get(Workspace.RESOURCE)["status"]
    return {each["type"]: each for each in status["conditions"]}


async def test_the_end_asks_the_api_server_itself(rig: Rig) -> None:
    await rig.serve()
    claim = rig.get(Machine.RESOURCE, Key("", FIRST))
    claim["metadata"]["finalizers"] = [labels.TERMINATION_FINALIZER]
    rig.api.put(Machine.RESOURCE, claim)
    rig.delete()
    await rig.settle()
    assert rig.conditions()["WorkspaceDeleting"] == ("True", "workspaceDeleted")
    assert rig.conditions()["WorkspaceSucceeded"] == ("False", "workspaceDeleted")
    assert rig.api.see(Deployment.RESOURCE, KEY) is None
    assert rig.api.see(Service.RESOURCE, KEY) is None
    assert "deletionTimestamp" in rig.get(Machine.RESOURCE, Key("", FIRST))["metadata"]

    rig.caches.machines.replace([], "1")  # the cache lost it, the API server did not
    await rig.work.reconcile(KEY, 0)
    assert rig.api.see(Workspace.RESOURCE, KEY) is not None

    rig.api.remove(Machine.RESOURCE, Key("", FIRST))
    await rig.reconcile()
    assert rig.api.see(Workspace.RESOURCE, KEY) is None
    await rig.reconcile()


async def test_where_a_kind_is_not_served_the_end_asks_for_the_other(rig: Rig) -> None:
    rig.create(metadata=rig_metadata(finalizers=[labels.WORKSPACE_FINALIZER]))
    rig.delete()
    rig.api.fault = lambda verb, path: (
        NotFound("NotFound", "no such kind") if path.endswith("/machines") else None
    )
    await rig.settle(2)
    assert rig.api.see(Workspace.RESOURCE, KEY) is None


def rig_metadata(**more: Any) -> dict[str, Any]:
    return {
        "name": KEY.name,
        "namespace": KEY.namespace,
        "uid": UID,
        "creationTimestamp": START.isoformat(),
        **more,
    }


async def test_a_claim_that_exists_is_success(rig: Rig) -> None:
    rig.create()
    rig.sync()
    await rig.work.reconcile(KEY, 0)
    rig.caches.machines.replace([], "1")  # as if the cache had not seen it in time
    again = Rig(api=rig.api)
    again.sync()
    again.caches.machines.replace([], "1")
    found = again.get(Workspace.RESOURCE)
    del found["status"]
    rig.api.put(Workspace.RESOURCE, found)
    fill(again.caches.workspaces, rig.api)
    await again.work.reconcile(KEY, 0)
    assert len(rig.api.all(Machine.RESOURCE)) == 1


async def test_a_claim_of_that_name_on_its_way_out_is_awaited(rig: Rig) -> None:
    rig.create()
    meta = {"name": FIRST, "finalizers": ["x"], "deletionTimestamp": START.isoformat()}
    rig.api.put(Machine.RESOURCE, {"metadata": meta})
    with pytest.raises(Stale, match="on its way out"):
        await rig.reconcile()
    assert rig.conditions() == {}


async def test_a_name_that_another_one_has_is_passed_over(rig: Rig) -> None:
    rig.create()
    other = {"metadata": {"name": FIRST, "annotations": {labels.WORKSPACE_UID: "other"}}}
    rig.api.put(Machine.RESOURCE, other)
    await rig.reconcile()
    assert rig.get(Machine.RESOURCE, Key("", SECOND))
    await rig.settle()
    (slot,) = rig.get(Workspace.RESOURCE)["status"]["slots"]
    assert (slot["claim"], slot["attempt"]) == (SECOND, 1)


async def test_two_names_that_others_have_are_told(rig: Rig) -> None:
    rig.create()
    for name in (FIRST, SECOND):
        other = {"metadata": {"name": name, "annotations": {labels.WORKSPACE_UID: "other"}}}
        rig.api.put(Machine.RESOURCE, other)
    with pytest.raises(Blocked, match="is not this Workspace's"):
        await rig.reconcile()
    assert rig.conditions()["ResourceReady"] == ("False", "ClaimNameTaken")


async def test_a_lost_claim_is_not_replaced_while_the_api_server_has_it(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    rig.sync()
    rig.caches.machines.replace([], "1")
    with pytest.raises(Stale, match="is not gone yet"):
        await rig.work.reconcile(KEY, 0)
    assert len(rig.api.all(Machine.RESOURCE)) == 1

    rig.api.remove(Machine.RESOURCE, Key("", FIRST))
    await rig.settle()
    assert [m["metadata"]["name"] for m in rig.api.all(Machine.RESOURCE)] == [SECOND]
    (slot,) = rig.get(Workspace.RESOURCE)["status"]["slots"]
    assert (slot["attempt"], slot["failures"]) == (1, 1)


async def test_a_second_loss_is_dated(rig: Rig) -> None:
    rig.create()
    await rig.settle()
    for name in (FIRST, SECOND):
        rig.api.remove(Machine.RESOURCE, Key("", name))
        await rig.settle()
    (slot,) = rig.get(Workspace.RESOURCE)["status"]["slots"]
    assert (slot["failures"], slot["lostAt"]) == (2, "2026-01-01T00:00:00Z")
    assert rig.conditions()["MachineReady"] == ("False", "ClaimLost")
    result = await rig.reconcile()
    assert result.after == 10.0


async def test_a_passing_failure_is_told_when_it_stays(rig: Rig) -> None:
    rig.create()
    down = Transient("Unreachable", "connection refused")
    rig.api.fault = lambda verb, path: (
        down if (verb, "machines" in path) == ("POST", True) else None
    )
    for failures in (0, 1):
        with pytest.raises(Transient):
            await rig.reconcile(failures)
    assert rig.conditions() == {}
    with pytest.raises(Transient):
        await rig.reconcile(2)
    assert rig.conditions()["ResourceReady"] == ("Unknown", "Unreachable")
    assert rig.conditions()["WorkspaceReady"] == ("Unknown", "workspacePending")
    assert rig.get(Workspace.RESOURCE)["status"]["state"] == "Pending"


async def test_a_passing_failure_takes_nothing_from_a_workspace_that_serves(rig: Rig) -> None:
    await rig.serve()
    node = rig.get(Node.RESOURCE, NODE)
    del node["metadata"]["labels"][labels.ACCELERATOR]
    rig.api.put(Node.RESOURCE, node)
    down = Transient("Unreachable", "connection refused")
    rig.api.fault = lambda verb, path: (
        down if (verb, "/nodes/" in path) == ("PATCH", True) else None
    )
    with pytest.raises(Transient):
        await rig.reconcile(2)
    assert rig.conditions()["ResourceReady"] == ("Unknown", "Unreachable")
    assert rig.conditions()["InferenceReady"] == ("True", "WorkspaceInferenceStatusSuccess")
    assert rig.get(Workspace.RESOURCE)["status"]["state"] == "Ready"
    assert [said for said in rig.told.said if said[0] == "Warning"] == []

    rig.api.fault = lambda verb, path: None
    await rig.settle(2)
    assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")


async def test_a_bug_of_ours_is_owned_up_to(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.serve()

    def buggy(seen: Any) -> Any:
        raise KeyError("slot")

    monkeypatch.setattr("workspace_controller.workspaces.controller.decide", buggy)
    for failures in (0, 1):
        with pytest.raises(KeyError):
            await rig.reconcile(failures)
    assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")
    with pytest.raises(KeyError):
        await rig.reconcile(2)
    assert rig.conditions()["WorkspaceReady"] == ("Unknown", "InternalError")
    assert rig.get(Workspace.RESOURCE)["status"]["state"] == "Ready"

    rig.api.fault = lambda verb, path: Transient("Unreachable", "connection refused")
    with pytest.raises(KeyError):
        await rig.reconcile(3)
    rig.api.fault = lambda verb, path: None
    monkeypatch.undo()
    await rig.settle(1)
    assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")


@pytest.mark.parametrize("kept", [True, False])
async def test_what_holds_up_the_end_is_said(rig: Rig, kept: bool) -> None:
    await rig.serve()
    rig.delete()
    if not kept:
        rig.api.remove(Machine.RESOURCE, Key("", FIRST))
    no = Blocked("Forbidden", "may not delete deployments")
    rig.api.fault = lambda verb, path: (
        no if verb == "DELETE" and ("/deployments" in path or "/machines" in path) else None
    )
    for failures in range(4):
        with pytest.raises(Blocked):
            await rig.reconcile(failures)
    assert rig.conditions()["WorkspaceDeleting"] == ("True", "Forbidden")
    for kind in ("ResourceReady", "InferenceReady", "WorkspaceReady"):
        assert rig.conditions()[kind] == ("False", "workspaceDeleted")
    warnings = [said for said in rig.told.said if said[0] == "Warning"]
    assert warnings == [("Warning", "Forbidden", "may not delete deployments")]


async def test_a_refusal_is_told_at_once_and_where_it_belongs(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    rig.provision()
    no = Blocked("Forbidden", "may not patch deployments")
    rig.api.fault = lambda verb, path: no if "/deployments" in path else None
    with pytest.raises(Blocked):
        await rig.reconcile()
    conditions = rig.conditions()
    assert conditions["ResourceReady"] == ("True", "workspaceResourceStatusSuccess")
    assert conditions["InferenceReady"] == ("False", "Forbidden")
    assert conditions["WorkspaceReady"] == ("False", "workspaceFailed")
    warnings = [said for said in rig.told.said if said[0] == "Warning"]
    assert warnings == [("Warning", "Forbidden", "may not patch deployments")]


@pytest.mark.parametrize("where", ["/machines", "/services", "/deployments"])
async def test_a_rejection_of_what_we_write_is_tried_again(rig: Rig, where: str) -> None:
    rig.create()
    if where != "/machines":
        await rig.settle(2)
        rig.provision()
    no = Rejected("Invalid", "denied by policy")
    rig.api.fault = lambda verb, path: no if verb != "GET" and where in path else None
    with pytest.raises(Blocked) as refusal:
        await rig.reconcile()
    assert refusal.value.retry_after == 300.0
    assert ("False", "Invalid") in rig.conditions().values()


async def test_a_template_that_the_api_server_refuses_is_called_so(rig: Rig) -> None:
    rig.create(inference={"template": {"spec": {"containers": [{"name": "own", "image": "x"}]}}})
    await rig.settle(2)
    rig.provision()
    no = Rejected("Invalid", "spec.template.spec.hostname: Invalid value")
    rig.api.fault = lambda verb, path: no if verb == "PATCH" and "/deployments" in path else None
    with pytest.raises(Blocked, match="hostname"):
        await rig.reconcile()
    assert rig.conditions()["InferenceReady"] == ("False", "TemplateRejected")


OWN = {"template": {"spec": {"containers": [{"name": "own", "image": "x"}]}}}


async def test_a_template_is_judged_before_a_node_is_bought_and_only_once(rig: Rig) -> None:
    rig.create(inference=OWN)
    no = Rejected("Invalid", "spec.template.spec.hostname: Invalid value")
    rig.api.fault = lambda verb, path: no if verb == "PATCH" and "/deployments" in path else None
    with pytest.raises(Blocked, match="hostname"):
        await rig.reconcile()
    assert rig.api.all(Machine.RESOURCE) == []
    assert rig.conditions() == {
        "ResourceReady": ("False", "workspaceResourceStatusNotReady"),
        "InferenceReady": ("False", "TemplateRejected"),
        "WorkspaceReady": ("False", "workspaceFailed"),
        "WorkspaceSucceeded": ("False", "workspaceFailed"),
    }
    warnings = [said for said in rig.told.said if said[0] == "Warning"]
    assert warnings == [
        (
            "Warning",
            "TemplateRejected",
            f"the API server refuses inference.template: {no.message}",
        )
    ]

    rig.api.fault = lambda verb, path: None
    await rig.settle()
    assert len(rig.api.all(Machine.RESOURCE)) == 1
    assert rig.api.all(Deployment.RESOURCE) == [], "a dry run stores nothing"
    rig.api.remove(Machine.RESOURCE, Key("", FIRST))
    rig.api.calls.clear()
    await rig.settle(2)
    assert rig.get(Machine.RESOURCE, Key("", SECOND))
    assert not any(verb == "PATCH" and "/deployments" in path for verb, path in rig.api.calls)


async def test_a_template_whose_name_is_taken_costs_no_node(rig: Rig) -> None:
    rig.api.put(Deployment.RESOURCE, {"metadata": {"name": KEY.name, "namespace": "team"}})
    rig.create(inference=OWN)
    rig.sync()
    rig.caches.deployments.replace([], "1")  # it does not carry our label
    with pytest.raises(Blocked, match="is not ours"):
        await rig.work.reconcile(KEY, 0)
    assert rig.api.all(Machine.RESOURCE) == []
    assert rig.conditions()["InferenceReady"] == ("False", "NameTaken")


def settings(text: str) -> dict[str, Any]:
    data = {"inference_config.yaml": text}
    return {"metadata": {"name": "settings", "namespace": KEY.namespace}, "data": data}


CONFIGURED = {"preset": {"name": "phi-3-mini-128k-instruct"}, "config": "settings"}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "ConfigMap settings does not exist in namespace team"),
        (
            {"metadata": {"name": "settings", "namespace": "team"}, "data": {"a": "1"}},
            "no key inference_config.yaml; the keys it has: a",
        ),
        (settings("a: [1"), "inference_config.yaml of ConfigMap settings is not YAML"),
        (settings("- a"), "holds a list, not settings by name"),
    ],
    ids=["missing", "without-the-key", "not-yaml", "no-settings"],
)
async def test_settings_that_are_not_there_cost_no_node(
    rig: Rig, found: dict[str, Any] | None, words: str
) -> None:
    rig.create(inference=CONFIGURED)
    if found is not None:
        rig.api.put(ConfigMap.RESOURCE, found)
    result = await rig.reconcile()
    assert result.after == 30.0
    assert rig.api.all(Machine.RESOURCE) == []
    assert rig.conditions()["InferenceReady"] == ("False", "InferenceConfigNotReady")
    message = rig.message("InferenceReady")
    assert words in message
    assert rig.conditions()["WorkspaceReady"] == ("False", "workspaceFailed")

    rig.api.put(ConfigMap.RESOURCE, settings("max_model_len: 4096"))
    await rig.settle()
    assert len(rig.api.all(Machine.RESOURCE)) == 1


async def test_a_change_of_the_settings_rolls_the_pods(rig: Rig) -> None:
    rig.api.put(ConfigMap.RESOURCE, settings("max_model_len: 4096"))
    await rig.serve(inference=CONFIGURED)
    before = rig.get(Deployment.RESOURCE)["spec"]["template"]["metadata"]
    rig.api.put(ConfigMap.RESOURCE, settings("max_model_len: 8192"))
    result = await rig.reconcile()
    assert result.after == 30.0
    assert rig.get(Deployment.RESOURCE)["spec"]["template"]["metadata"] == before, (
        "not looked at yet"
    )

    rig.now += timedelta(seconds=30)
    await rig.reconcile()
    assert rig.get(Deployment.RESOURCE)["spec"]["template"]["metadata"] != before


async def test_what_serves_goes_on_without_its_settings_and_says_so(rig: Rig) -> None:
    rig.api.put(ConfigMap.RESOURCE, settings("max_model_len: 4096"))
    await rig.serve(inference=CONFIGURED)
    before = rig.get(Deployment.RESOURCE)
    rig.api.remove(ConfigMap.RESOURCE, Key(KEY.namespace, "settings"))
    rig.now += timedelta(seconds=31)
    await rig.settle(2)
    assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")
    assert "No edit takes effect: inference.config: ConfigMap settings" in rig.message(
        "InferenceReady"
    )
    assert rig.get(Deployment.RESOURCE) == before


async def test_settings_that_may_not_be_read_are_said_to_be(rig: Rig) -> None:
    rig.create(inference=CONFIGURED)
    no = Blocked("Forbidden", "may not get configmaps")
    rig.api.fault = lambda verb, path: no if "/configmaps" in path else None
    await rig.reconcile()
    assert "cannot be read: may not get configmaps" in rig.message("InferenceReady")


BIG = {"preset": {"name": "gpt-oss-120b"}}
PAIR = {
    "count": 2,
    "instanceType": "Standard_NC24ads_A100_v4",  # a little less GPU memory than it needs
    "labelSelector": {"matchLabels": {"apps": "phi"}},
}


async def test_a_model_too_big_for_a_node_is_spread_over_all_of_them(rig: Rig) -> None:
    await rig.spread()
    made = rig.get(StatefulSet.RESOURCE)
    assert made["spec"]["replicas"] == 2
    (server,) = made["spec"]["template"]["spec"]["containers"]
    assert "--nodes=2" in server["args"]
    assert "--engine=vllm" in server["args"]
    leader = "--leader_address=phi-0.phi-headless.team.svc.cluster.local"
    assert leader in server["args"]
    assert rig.api.see(Deployment.RESOURCE, KEY) is None
    headless = rig.get(Service.RESOURCE, Key(KEY.namespace, "phi-headless"))
    assert headless["spec"]["publishNotReadyAddresses"] is True
    client = rig.get(Service.RESOURCE)["spec"]
    assert "publishNotReadyAddresses" not in client
    assert client["selector"]["statefulset.kubernetes.io/pod-name"] == "phi-0"

    rig.delete()
    await rig.settle()
    left = (rig.api.all(view.RESOURCE) for view in (StatefulSet, Service))
    assert [*left] == [[], []]


async def test_of_two_kinds_of_workload_there_is_never_more_than_one(rig: Rig) -> None:
    await rig.spread()
    spread = rig.get(StatefulSet.RESOURCE)
    found = rig.get(Workspace.RESOURCE)
    rig.api.put(Workspace.RESOURCE, found | {"inference": OWN})  # as no update may, but no matter
    spread["metadata"]["finalizers"] = ["foregroundDeletion"]  # as the garbage collector's
    rig.api.put(StatefulSet.RESOURCE, spread)
    await rig.settle()
    assert "deletionTimestamp" in rig.get(StatefulSet.RESOURCE)["metadata"]
    assert rig.api.see(Deployment.RESOURCE, KEY) is None
    assert "comes when its pods are gone" in rig.message("InferenceReady")

    rig.api.remove(StatefulSet.RESOURCE, KEY)
    await rig.settle()
    assert rig.get(Deployment.RESOURCE)
    assert rig.api.see(Service.RESOURCE, Key(KEY.namespace, "phi-headless")) is None


async def test_a_later_version_that_knows_more_of_a_models_needs_leaves_it_as_it_runs(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.spread()
    before = rig.get(StatefulSet.RESOURCE)
    now = Fit("vllm", nodes=1, gpus=1, kv_room=0, tokens=0)
    monkeypatch.setattr("workspace_controller.workspaces.target.fit", lambda *_, **__: now)
    await rig.settle()
    assert rig.get(StatefulSet.RESOURCE) == before
    assert rig.api.see(Deployment.RESOURCE, KEY) is None


async def test_the_address_outside_is_told_when_it_is_known(rig: Rig) -> None:
    notes = {labels.ENABLE_LOAD_BALANCER: "True"}
    await rig.serve(metadata=rig_metadata(annotations=notes))
    assert "when the cloud has made the load balancer" in rig.message("WorkspaceReady")
    made = rig.get(Service.RESOURCE)
    made["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}
    rig.api.put(Service.RESOURCE, made)
    rig.now += timedelta(seconds=5)  # what changes in words alone may wait a little
    await rig.settle(1)
    assert "from outside the cluster at http://192.0.2.7" in rig.message("WorkspaceReady")


async def test_an_edit_is_not_called_served_before_it_is_rolled_out(rig: Rig) -> None:
    def template(image: str) -> dict[str, Any]:
        return {"template": {"spec": {"containers": [{"name": "own", "image": image}]}}}

    rig.create(inference=template("one"))
    await rig.settle(2)
    rig.provision()
    await rig.settle(2)
    rig.pods_ready()
    await rig.settle(1)
    assert rig.conditions()["InferenceReady"][0] == "True"

    found = rig.get(Workspace.RESOURCE)
    rig.api.put(Workspace.RESOURCE, found | {"inference": template("two")})
    await rig.reconcile()
    assert rig.conditions()["InferenceReady"] == ("False", "WorkspaceInferenceStatusPending")


async def test_a_strangers_object_is_not_merged_into(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    rig.provision()
    rig.api.put(Service.RESOURCE, {"metadata": {"name": KEY.name, "namespace": KEY.namespace}})
    rig.sync()
    rig.caches.services.replace([], "1")  # it has no label of ours, so no cache holds it
    with pytest.raises(Blocked, match="is not ours"):
        await rig.work.reconcile(KEY, 0)
    assert "spec" not in rig.get(Service.RESOURCE)
    assert rig.conditions()["InferenceReady"] == ("False", "NameTaken")


@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        ({"kind": "Workspace", "name": KEY.name}, ("False", "WorkspaceInferenceStatusPending")),
        ({"kind": "Job", "name": "other"}, ("False", "NameTaken")),
    ],
)
async def test_whose_a_child_is_decides(
    rig: Rig, owner: dict[str, str], reason: tuple[str, str]
) -> None:
    rig.create()
    await rig.settle(2)
    rig.provision()
    reference = {"apiVersion": "v1", "uid": "another", **owner}
    meta = {"name": KEY.name, "namespace": KEY.namespace, "ownerReferences": [reference]}
    rig.api.put(Deployment.RESOURCE, {"metadata": meta, "spec": {"replicas": 7}})
    await rig.settle()
    assert rig.get(Deployment.RESOURCE)["spec"] == {"replicas": 7}
    assert rig.conditions()["InferenceReady"] == reason


async def test_the_count_is_followed_down_to_the_claims(rig: Rig) -> None:
    await rig.serve()
    found = rig.get(Workspace.RESOURCE)
    found["resource"]["count"] = 2
    rig.api.put(Workspace.RESOURCE, found)
    await rig.settle()
    assert len(rig.api.all(Machine.RESOURCE)) == 2
    assert rig.get(Deployment.RESOURCE)["spec"]["replicas"] == 1, "first the nodes come"
    rig.provision(claim_name(UID, 1, 0), "node-1")
    await rig.settle()
    assert rig.get(Deployment.RESOURCE)["spec"]["replicas"] == 2

    rig.pods_ready(2)
    found = rig.get(Workspace.RESOURCE)
    found["resource"]["count"] = 1
    rig.api.put(Workspace.RESOURCE, found)
    await rig.settle()
    assert len(rig.api.all(Machine.RESOURCE)) == 2, "first the pods go"
    rig.pods_ready(1)
    await rig.settle()
    assert [m["metadata"]["name"] for m in rig.api.all(Machine.RESOURCE)] == [FIRST]


async def test_what_cannot_be_served_is_said_and_nothing_is_bought(rig: Rig) -> None:
    rig.create(inference={"preset": {"name": "unknown"}})
    await rig.settle()
    assert rig.conditions()["ResourceReady"] == ("False", "PresetUnknown")
    assert rig.api.all(Machine.RESOURCE) == []
    assert "finalizers" not in rig.get(Workspace.RESOURCE)["metadata"]


async def test_a_model_from_before_is_still_looked_at_when_its_spec_cannot_be_served(
    rig: Rig,
) -> None:
    await rig.serve()
    found = rig.get(Workspace.RESOURCE)
    found["inference"]["preset"]["name"] = "unknown"  # as after an upgrade that drops a preset
    rig.api.put(Workspace.RESOURCE, found)
    await rig.settle(1)
    assert rig.conditions()["InferenceReady"] == ("True", "WorkspaceInferenceStatusSuccess")
    assert rig.conditions()["WorkspaceReady"] == ("False", "workspaceFailed")

    rig.pods_ready(0)
    await rig.settle(1)
    assert rig.conditions()["InferenceReady"] == ("False", "PresetUnknown")
    assert rig.message("InferenceReady").startswith("0 of 1 pods ready")
    assert rig.api.see(Deployment.RESOURCE, KEY) is not None


async def test_a_claim_that_cannot_be_read_holds_the_workspace_too(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    mine = rig.api.all(Machine.RESOURCE)[0]
    rig.api.put(Machine.RESOURCE, mine | {"spec": {"requirements": "a later release's"}})
    await rig.work.client.delete(Workspace.RESOURCE, KEY)
    rig.sync_without(Machine)
    with pytest.raises(Blocked, match=r"ClaimUnreadable: Machine .* Delete it, or put it right"):
        await rig.work.reconcile(KEY, 0)
    assert rig.get(Workspace.RESOURCE)["metadata"]["finalizers"] == [labels.WORKSPACE_FINALIZER]
    assert rig.conditions()["WorkspaceDeleting"] == ("True", "ClaimUnreadable")
    assert "Delete it, or put it right" in rig.message("WorkspaceDeleting")
    assert [said[1] for said in rig.told.said if said[0] == "Warning"] == ["ClaimUnreadable"]


async def test_what_cannot_be_seen_is_said_and_no_edit_called_answered(rig: Rig) -> None:
    await rig.serve()
    found = rig.get(Workspace.RESOURCE)
    found["metadata"]["generation"] = found["status"]["observedGeneration"] + 1
    found["inference"] = CONFIGURED
    rig.api.put(Workspace.RESOURCE, found)
    down = Transient("Unreachable", "connection refused")
    rig.api.fault = lambda verb, path: down if "/configmaps" in path else None
    with pytest.raises(Transient):
        await rig.reconcile(1)
    assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")
    with pytest.raises(Transient):
        await rig.reconcile(2)
    assert rig.conditions()["WorkspaceReady"] == ("Unknown", "Unreachable")
    assert rig.conditions()["InferenceReady"] == ("True", "WorkspaceInferenceStatusSuccess")
    status = rig.get(Workspace.RESOURCE)["status"]
    assert status["state"] == "Ready"
    assert status["observedGeneration"] == found["metadata"]["generation"] - 1
    before = writes(rig)
    with pytest.raises(Transient):
        await rig.reconcile(3)
    assert writes(rig) == before


async def test_a_look_that_is_rejected_is_tried_again(rig: Rig) -> None:
    rig.create(inference=CONFIGURED)
    odd = Rejected("Unreadable", "GET answered an odd object")
    rig.api.fault = lambda verb, path: odd if "/configmaps" in path else None
    with pytest.raises(Blocked):
        await rig.reconcile()
    assert rig.conditions()["WorkspaceReady"] == ("Unknown", "Unreadable")


async def test_claims_of_a_vanished_workspace_are_swept_up_and_no_others(rig: Rig) -> None:
    owner = {labels.WORKSPACE: KEY.name, labels.WORKSPACE_NAMESPACE: KEY.namespace}
    ours = {"name": "ws1", "labels": owner, "annotations": {labels.WORKSPACE_UID: UID}}
    theirs = {"name": "ws2", "labels": owner}
    for meta in (ours, theirs):
        rig.api.put(Machine.RESOURCE, {"metadata": meta})
    await rig.reconcile()
    assert [m["metadata"]["name"] for m in rig.api.all(Machine.RESOURCE)] == ["ws2"]


async def test_nothing_is_swept_up_while_the_api_server_has_the_workspace(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    rig.caches.workspaces.replace([], "1")
    await rig.work.reconcile(KEY, 0)
    assert len(rig.api.all(Machine.RESOURCE)) == 1


@pytest.mark.parametrize(
    ("claim_api", "machines", "nodeclaims", "kind"),
    [
        ("auto", True, True, "Machine"),
        ("auto", False, True, "NodeClaim"),
        ("machine", False, True, None),
        ("nodeclaim", True, True, "NodeClaim"),
    ],
)
async def test_the_kind_of_claim_is_what_is_asked_for_and_served(
    claim_api: ClaimApi, machines: bool, nodeclaims: bool, kind: str | None
) -> None:
    rig = Rig(claim_api=claim_api)
    rig.create()
    rig.caches.machines.served, rig.caches.nodeclaims.served = machines, nodeclaims
    await rig.settle(2)
    made = {"Machine": Machine.RESOURCE, "NodeClaim": NodeClaim.RESOURCE}
    assert [each for each, resource in made.items() if rig.api.all(resource)] == (
        [kind] if kind else []
    )
    if kind is None:
        assert rig.conditions()["ResourceReady"] == ("False", "ClaimApiNotServed")


async def test_a_service_that_a_template_needs_no_more_goes(rig: Rig) -> None:
    def template(**port: int) -> dict[str, Any]:
        container = {"name": "own", "image": "x", "ports": [port] if port else []}
        return {"template": {"spec": {"containers": [container]}}}

    rig.create(inference=template(containerPort=8000))
    await rig.settle(2)
    rig.provision()
    await rig.settle(2)
    assert rig.get(Service.RESOURCE)["spec"]["ports"][0]["targetPort"] == 8000

    found = rig.get(Workspace.RESOURCE)
    rig.api.put(Workspace.RESOURCE, found | {"inference": template()})
    await rig.settle(2)
    assert rig.api.see(Service.RESOURCE, KEY) is None
    rig.pods_ready()
    await rig.settle(2)
    ready = next(
        c
        for c in rig.get(Workspace.RESOURCE)["status"]["conditions"]
        if c["type"] == "WorkspaceReady"
    )
    assert (ready["status"], ready["message"]) == ("True", "the pods are ready")


async def test_nodes_that_left_need_no_release() -> None:
    rig = Rig(claim_api="byo")
    rig.create()
    rig.make_node("a", {"apps": "phi"})
    await rig.settle(3)
    rig.delete()
    rig.sync()
    sight = await rig.work.observer.observe(rig.caches.workspaces.all()[0])
    rig.caches.nodes.replace([], "1")
    for action in (ReserveNode("a"), ReleaseNodes(sight.seen.reserved)):
        workspace = rig.caches.workspaces.all()[0]
        if isinstance(action, ReserveNode):
            with pytest.raises(Stale, match="is gone"):
                await rig.work.executor.carry_out(workspace, sight, action)
        else:
            await rig.work.executor.carry_out(workspace, sight, action)
    assert labels.RESERVED_FOR in rig.get(Node.RESOURCE, Key("", "a"))["metadata"]["labels"]


async def test_own_nodes_are_chosen_reserved_and_given_back() -> None:
    rig = Rig(claim_api="byo")
    rig.create(
        resource={
            "labelSelector": {"matchLabels": {"apps": "phi"}},
            "preferredNodes": ["b"],
        }
    )
    mine = {"apps": "phi"}
    rig.make_node("a", mine)
    rig.make_node("b", mine)
    rig.make_node("c", mine | {labels.WORKSPACE: "other"})
    rig.make_node("d", {"apps": "other"})
    rig.make_node("e", mine, allocatable={})
    rig.make_node("f", mine | {labels.RESERVED_FOR: "u-gone"})
    await rig.settle(3)
    assert rig.get(Node.RESOURCE, Key("", "b"))["metadata"]["labels"][labels.RESERVED_FOR] == UID
    assert rig.get(Workspace.RESOURCE)["status"]["workerNodes"] == ["b"]
    assert ("Normal", "NodeReserved", "uses the existing node b") in rig.told.said

    rig.delete()
    await rig.settle(2)
    assert rig.api.see(Workspace.RESOURCE, KEY) is None
    assert labels.RESERVED_FOR not in rig.get(Node.RESOURCE, Key("", "b"))["metadata"]["labels"]


@pytest.mark.parametrize(
    ("taint", "tolerations", "taken"),
    [
        ({"key": "sku", "value": "gpu", "effect": "NoSchedule"}, [], True),
        ({"key": "nvidia.com/gpu", "value": "x", "effect": "NoSchedule"}, [], True),
        ({"key": "team", "value": "a", "effect": "PreferNoSchedule"}, [], True),
        ({"key": "team", "value": "a", "effect": "NoSchedule"}, [], False),
        ({"key": "sku", "value": "gpu", "effect": "NoExecute"}, [], False),
        ({"key": "team", "value": "a", "effect": "NoExecute"}, [{"operator": "Exists"}], True),
        ({"key": "team", "value": "a", "effect": "NoSchedule"}, [{"key": "team"}], False),
        (
            {"key": "team", "value": "a", "effect": "NoSchedule"},
            [{"key": "team", "value": "a", "effect": "NoSchedule"}],
            True,
        ),
    ],
)
async def test_a_node_whose_taints_keep_the_pods_away_is_not_taken(
    taint: dict[str, str], tolerations: list[dict[str, str]], taken: bool
) -> None:
    rig = Rig(claim_api="byo")
    spec = {"containers": [{"name": "own", "image": "x"}], "tolerations": tolerations}
    rig.create(**({"inference": {"template": {"spec": spec}}} if tolerations else {}))
    rig.make_node("a", {"apps": "phi"})
    node = rig.get(Node.RESOURCE, Key("", "a"))
    rig.api.put(Node.RESOURCE, node | {"spec": {"taints": [taint]}})
    await rig.settle(3)
    assert rig.conditions()["ResourceReady"][0] == str(taken)
    found = rig.get(Node.RESOURCE, Key("", "a"))["metadata"]["labels"]
    assert (labels.RESERVED_FOR in found) is taken


async def test_a_node_that_a_provisioner_made_for_others_is_not_taken(rig: Rig) -> None:
    rig.make_node("a", {"apps": "phi", labels.NODEPOOL: "kaito"})
    rig.make_node("b", {"apps": "phi"})
    rig.create()
    await rig.settle(3)
    assert labels.RESERVED_FOR not in rig.get(Node.RESOURCE, Key("", "a"))["metadata"]["labels"]
    assert rig.get(Node.RESOURCE, Key("", "b"))["metadata"]["labels"][labels.RESERVED_FOR] == UID
    assert rig.api.all(Machine.RESOURCE) == []


async def test_a_node_that_some_claim_became_is_not_taken() -> None:
    rig = Rig(claim_api="byo")
    rig.create()
    rig.make_node("a", {"apps": "phi"})
    rig.api.put(Machine.RESOURCE, {"metadata": {"name": "ws9"}, "status": {"nodeName": "a"}})
    await rig.settle(2)
    assert rig.conditions()["ResourceReady"] == ("False", "NoFreeNode")


async def test_a_living_workspaces_reservation_is_respected() -> None:
    rig = Rig(claim_api="byo")
    other = rig_metadata(name="other", uid="u-2")
    rig.create(metadata=other)
    rig.create()
    rig.make_node("a", {"apps": "phi", labels.RESERVED_FOR: "u-2"})
    await rig.settle(2)
    assert rig.conditions()["ResourceReady"] == ("False", "NoFreeNode")


async def test_a_holder_that_no_cache_shows_yet_is_respected() -> None:
    rig = Rig(claim_api="byo")
    rig.create()
    rig.make_node("a", {"apps": "phi", labels.RESERVED_FOR: "u-2"})
    rig.sync()
    rig.create(metadata=rig_metadata(name="younger", uid="u-2"))
    with pytest.raises(Stale, match="living holder"):
        await rig.work.reconcile(KEY, 0)
    assert rig.get(Node.RESOURCE, Key("", "a"))["metadata"]["labels"][labels.RESERVED_FOR] == "u-2"


async def test_a_lost_claim_is_awaited_whatever_kind_is_made_now(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    again = Rig(claim_api="nodeclaim", api=rig.api)
    again.sync()
    again.caches.machines.replace([], "1")
    with pytest.raises(Stale, match=f"Machine {FIRST} is not gone yet"):
        await again.work.reconcile(KEY, 0)
    assert rig.api.all(NodeClaim.RESOURCE) == []


async def test_a_node_changed_meanwhile_is_not_reserved() -> None:
    rig = Rig(claim_api="byo")
    rig.create()
    rig.make_node("a", {"apps": "phi"})
    rig.sync()
    rig.make_node("a", {"apps": "phi", labels.RESERVED_FOR: "u-2"})
    with pytest.raises(Stale):
        await rig.work.reconcile(KEY, 0)
    assert rig.get(Node.RESOURCE, Key("", "a"))["metadata"]["labels"][labels.RESERVED_FOR] == "u-2"


async def test_a_node_that_stopped_says_why(rig: Rig) -> None:
    await rig.serve()
    stopped = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "m"}
    pressure = {"type": "DiskPressure", "status": "True"}
    found = rig.get(Node.RESOURCE, NODE)
    found["status"]["conditions"] = [stopped, pressure]
    rig.api.put(Node.RESOURCE, found)
    await rig.settle()
    assert rig.conditions()["ResourceReady"] == ("False", "NodeNotReady")
    status = rig.get(Workspace.RESOURCE)["status"]
    message = next(c["message"] for c in status["conditions"] if c["type"] == "ResourceReady")
    assert message == "node node-0: NodeStatusUnknown: m; DiskPressure"
    assert status["workerNodes"] == []

    found["status"]["conditions"] = []
    rig.api.put(Node.RESOURCE, found)
    await rig.settle()
    message = rig.get(Workspace.RESOURCE)["status"]["conditions"][1]["message"]
    assert message == "node node-0: its kubelet has not reported yet"


async def test_pods_that_cannot_be_created_are_explained(rig: Rig) -> None:
    await rig.serve()
    found = rig.get(Deployment.RESOURCE)
    failed = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    found["status"] = {"observedGeneration": 99, "conditions": [failed]}
    rig.api.put(Deployment.RESOURCE, found)
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "PodsRefused")


async def test_a_status_for_a_workspace_that_is_gone_is_dropped(rig: Rig) -> None:
    rig.create(inference={"preset": {"name": "unknown"}})
    rig.sync()
    rig.api.remove(Workspace.RESOURCE, KEY)
    await rig.work.reconcile(KEY, 0)
    assert rig.told.said == []


async def test_a_finalizer_for_a_workspace_that_is_gone_is_dropped(rig: Rig) -> None:
    rig.create(metadata=rig_metadata(finalizers=[labels.WORKSPACE_FINALIZER]))
    rig.delete()
    rig.sync()
    rig.api.remove(Workspace.RESOURCE, KEY)
    await rig.work.reconcile(KEY, 0)


async def test_nothing_is_bought_for_a_workspace_that_is_gone(rig: Rig) -> None:
    rig.create()
    rig.sync()
    rig.api.remove(Workspace.RESOURCE, KEY)
    with pytest.raises(NotFound):
        await rig.work.reconcile(KEY, 0)
    assert rig.api.all(Machine.RESOURCE) == []


async def test_a_change_of_claim_kind_takes_the_old_condition_away() -> None:
    rig = Rig(claim_api="nodeclaim")
    stale = {"type": "MachineReady", "status": "True", "reason": "x", "message": ""}
    rig.create(status={"conditions": [stale]})
    await rig.settle(2)
    assert "MachineReady" not in rig.conditions()
    assert rig.conditions()["NodeClaimReady"] == ("Unknown", "CreateNodeClaimPending")


async def test_nodes_of_ones_own_leave_no_condition_of_claims_behind() -> None:
    rig = Rig(claim_api="byo")
    lost = {"type": "MachineReady", "status": "False", "reason": "ClaimLost", "message": ""}
    rig.create(status={"conditions": [lost]})
    rig.make_node("a", {"apps": "phi", labels.INSTANCE_TYPE: "Standard_NC6s_v3"})
    await rig.settle(3)
    assert rig.conditions()["ResourceReady"][0] == "True"
    assert "MachineReady" not in rig.conditions()


async def test_every_object_wakes_its_workspace(rig: Rig) -> None:
    owner = {labels.WORKSPACE: KEY.name, labels.WORKSPACE_NAMESPACE: KEY.namespace}
    mine = {"metadata": {"name": KEY.name, "namespace": KEY.namespace, "labels": owner}}
    claim = {"metadata": {"name": "ws1", "labels": owner, "creationTimestamp": START.isoformat()}}
    spec = {"nodeClassRef": {"group": "g", "kind": "k", "name": "n"}, "requirements": []}
    woken: list[Key] = []

    async def reconcile(key: Key) -> Result:
        woken.append(key)
        return Result()

    controller = Controller("test", reconcile)
    watch_everything(controller, rig.caches)
    rig.create()
    rig.sync()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(controller.run())
        await turns()
        assert woken == [KEY]
        for change in (
            lambda: rig.api.put(Machine.RESOURCE, claim | {"status": {"nodeName": "n1"}}),
            lambda: rig.api.put(NodeClaim.RESOURCE, claim | {"spec": spec}),
            lambda: rig.api.put(Pod.RESOURCE, mine),
            lambda: rig.api.put(Deployment.RESOURCE, mine),
            lambda: rig.api.put(Service.RESOURCE, mine),
            lambda: rig.api.put(Job.RESOURCE, mine),
            lambda: rig.make_node("n1", {}),
            lambda: rig.make_node("n2", owner),
            lambda: rig.make_node("n3", {labels.RESERVED_FOR: UID}),
        ):
            woken.clear()
            change()
            rig.sync()
            await turns()
            assert woken == [KEY], change
        woken.clear()
        rig.make_node("n4", {})
        rig.sync()
        await turns()
        assert woken == [], "a stranger's node concerns nobody"
        running.cancel()


# ---- adapters that another Workspace tunes ----


def tuned(result: str | None = "Succeeded", digit: str = "1") -> dict[str, Any]:
    status = {"run": "r", "result": result, "digest": f"sha256:{digit * 64}"}
    return {
        "metadata": {"name": "tune", "namespace": KEY.namespace, "uid": "u-2"},
        "resource": {"labelSelector": {"matchLabels": {"apps": "tune"}}},
        "tuning": tuning(),
        "status": {"observedGeneration": 1, "tuning": status},
    }


def puller(rig: Rig) -> list[str]:
    (found,) = rig.get(Deployment.RESOURCE)["spec"]["template"]["spec"]["initContainers"]
    command: list[str] = found["command"]
    return command


ADAPTED = {
    "preset": {"name": "phi-3-mini-128k-instruct"},
    "adapters": [{"source": {"name": "a", "workspace": "tune"}}],
}


async def test_an_adapter_that_is_being_tuned_is_waited_for_without_a_node(rig: Rig) -> None:
    rig.create(inference=ADAPTED)
    rig.api.put(Workspace.RESOURCE, tuned(None))
    await rig.settle(2)
    assert rig.conditions()["InferenceReady"] == ("False", "AdapterNotReady")
    assert rig.conditions()["WorkspaceReady"] == ("False", "workspacePending")
    assert rig.api.all(Machine.RESOURCE) == []

    rig.api.put(Workspace.RESOURCE, tuned())
    await rig.settle(2)
    rig.provision()
    await rig.settle()
    assert f"registry.example.com/team/adapter@sha256:{'1' * 64}" in puller(rig)
    assert "--docker-config=/mnt/secrets/push/config.json" in puller(rig)


async def test_what_serves_keeps_its_adapter_until_its_own_spec_changes(rig: Rig) -> None:
    rig.api.put(Workspace.RESOURCE, tuned())
    await rig.serve(inference=ADAPTED)
    for change in (tuned(digit="2"), tuned(None), tuned("Failed"), None):
        if change is None:
            rig.api.remove(Workspace.RESOURCE, Key(KEY.namespace, "tune"))
        else:
            rig.api.put(Workspace.RESOURCE, change)
        await rig.settle()
        assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")
        assert f"registry.example.com/team/adapter@sha256:{'1' * 64}" in puller(rig)

    found = rig.get(Workspace.RESOURCE)
    found["inference"]["adapters"][0]["strength"] = "0.5"
    rig.api.put(Workspace.RESOURCE, found)
    await rig.settle()
    assert f"registry.example.com/team/adapter@sha256:{'1' * 64}" in puller(rig)
    (message,) = [
        c["message"]
        for c in rig.get(Workspace.RESOURCE)["status"]["conditions"]
        if c["type"] == "InferenceReady"
    ]
    assert "Workspace tune does not exist" in message

    rig.api.put(Workspace.RESOURCE, tuned(digit="2"))
    await rig.settle()
    assert f"registry.example.com/team/adapter@sha256:{'2' * 64}" in puller(rig)


async def test_a_node_that_came_free_wakes_those_that_it_suits() -> None:
    rig = Rig(claim_api="byo")
    woken: list[Key] = []

    async def reconcile(key: Key) -> Result:
        woken.append(key)
        return Result()

    short = {"type": "ResourceReady", "status": "False", "reason": "NoFreeNode", "message": ""}
    for name, apps in (("waits", "phi"), ("elsewhere", "other")):
        selector = {"labelSelector": {"matchLabels": {"apps": apps}}}
        metadata = rig_metadata(name=name, uid=name)
        rig.create(metadata=metadata, resource=selector, status={"conditions": [short]})
    rig.make_node("held", {"apps": "phi", labels.RESERVED_FOR: "elsewhere"})
    controller = Controller("test", reconcile)
    watch_everything(controller, rig.caches)
    rig.sync()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(controller.run())
        await turns()
        woken.clear()
        rig.make_node("held", {"apps": "phi"})
        rig.sync()
        await turns()
        assert set(woken) == {Key(KEY.namespace, "waits"), Key(KEY.namespace, "elsewhere")}
        woken.clear()
        rig.make_node("new", {"apps": "phi", labels.RESERVED_FOR: "u-gone"})
        rig.sync()
        await turns()
        assert woken == [Key(KEY.namespace, "waits")]
        running.cancel()


async def turns() -> None:
    """Lets everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
