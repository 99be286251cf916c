"""Whole passes over a tuning Workspace and an API server in memory, from config to release."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from workspace_world.passes import RELEASE, Hands, fill, new_pass, provisioned, ready_node, sync
from workspace_world.tuning import DEFAULTS, DIGEST, OUTPUT, job_pod, pod_status, tuning, words

from controlkit.cache import Cache
from controlkit.controller import Result
from controlkit.errors import Blocked, NotFound, Stale, Transient
from controlkit.kube.objects import Key
from controlkit_testing import KeptEvents, MemoryApi
from gpuapis import labels
from gpuapis.core import ConfigMap, Job, Node, Pod
from gpuapis.machine import Machine
from gpuapis.workspace import Workspace
from workspace_controller.caches import Caches
from workspace_controller.presets.catalog import catalog
from workspace_controller.skus.table import sku_table
from workspace_controller.tuning.facts import Progress
from workspace_controller.tuning.progress import Heard
from workspace_controller.workspaces.facts import ClaimApi
from workspace_controller.workspaces.slots import claim_name
from workspace_controller.workspaces.target import Knowledge

START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = Key("team", "tune")
UID = "u-1"
CLAIM = Key("", claim_name(UID, 0, 0))
NODE = Key("", "node-0")
TEMPLATE = Key(RELEASE, "qlora-params-template")
COPY = Key("team", "tune-training-config")
POD = Key("team", "tune-abcde")


@dataclass
class Rig:
    """The controller's parts around one tuning Workspace: passes are made by hand."""

    release_node: bool = True
    byo: bool = False
    api: MemoryApi = field(default_factory=MemoryApi)
    caches: Caches = field(default_factory=Caches)
    heard: Heard = field(default_factory=Heard)
    clock: Hands = field(default_factory=lambda: Hands(START))

    def __post_init__(self) -> None:
        self.told = KeptEvents(self.api)
        self.start()
        self.configure(DEFAULTS, TEMPLATE)

    @property
    def now(self) -> datetime:
        return self.clock.at

    @now.setter
    def now(self, at: datetime) -> None:
        self.clock.at = at

    def start(self) -> None:
        """A new process: nothing is remembered but what the API server holds."""
        client = self.api.client("workspace-controller")
        self.caches, self.heard = Caches(), Heard()
        claim_api: ClaimApi = "byo" if self.byo else "auto"
        self.work = new_pass(
            client,
            self.caches,
            told=self.told,
            hold=self.hold,
            clock=self.clock,
            heard=self.heard,
            claim_api=claim_api,
            release_node=self.release_node,
        )

    def hold(self, key: Key, cache: Cache[Any], object_key: Key, version: str) -> None:
        assert version

    # ---- the world ----

    def configure(self, text: str, key: Key) -> None:
        metadata = {"name": key.name, "namespace": key.namespace}
        self.api.put(
            ConfigMap.RESOURCE, {"metadata": metadata, "data": {"training_config.yaml": text}}
        )

    def create(self, annotations: dict[str, str] | None = None, **changes: Any) -> None:
        metadata = {
            "name": KEY.name,
            "namespace": KEY.namespace,
            "uid": UID,
            "annotations": annotations or {},
            "creationTimestamp": START.isoformat(),
        }
        resource = {
            "instanceType": "Standard_NC6s_v3",
            "labelSelector": {"matchLabels": {"apps": "tune"}},
        }
        manifest = {"metadata": metadata, "resource": resource, "tuning": tuning(**changes)}
        self.api.put(Workspace.RESOURCE, manifest)

    def edit(self, **changes: Any) -> None:
        found = self.get(Workspace.RESOURCE, KEY)
        self.api.put(Workspace.RESOURCE, found | {"tuning": found["tuning"] | changes})

    def annotate(self, **marks: str) -> None:
        found = self.get(Workspace.RESOURCE, KEY)
        found["metadata"].setdefault("annotations", {}).update(marks)
        self.api.put(Workspace.RESOURCE, found)

    def provision(self) -> None:
        claim = self.get(Machine.RESOURCE, CLAIM)
        self.api.put(Machine.RESOURCE, provisioned(claim, NODE.name, self.now))
        self.make_node(claim["metadata"]["labels"])

    def make_node(self, marks: dict[str, str]) -> None:
        self.api.put(Node.RESOURCE, ready_node(NODE.name, marks))

    def run_pod(self, phase: str, code: int = 0, message: str = "", name: str = POD.name) -> None:
        uid = self.get(Job.RESOURCE, KEY)["metadata"]["uid"]
        manifest = job_pod(name, KEY.namespace, KEY.name, uid)
        manifest["status"] = pod_status(KEY.name, phase, code, message)
        self.api.put(Pod.RESOURCE, manifest)

    def end_job(self, kind: str, reason: str = "", message: str = "", failed: int = 0) -> None:
        job = self.get(Job.RESOURCE, KEY)
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-01-01T01:00:01Z",
        }
        job["status"] = {"conditions": [condition], "failed": failed}
        self.api.put(Job.RESOURCE, job)

    def lose_everything(self) -> None:
        """What a node's end does to pods, and a tidy person to Jobs."""
        self.api.remove(Pod.RESOURCE, POD)
        self.api.remove(Job.RESOURCE, KEY)

    # ---- passes ----

    def sync(self) -> None:
        caches = self.caches
        kept: tuple[Cache[Any], ...] = (
            *(caches.workspaces, caches.machines, caches.nodeclaims, caches.nodes),
            *(caches.pods, caches.jobs),
        )
        sync(self.api, kept, self.now)

    async def reconcile(self) -> Result:
        self.sync()
        return await self.work.reconcile(KEY, 0)

    async def settle(self, passes: int = 4) -> None:
        for _ in range(passes):
            await self.reconcile()

    async def begin(self, annotations: dict[str, str] | None = None, **changes: Any) -> None:
        """Brings the run to where its Job is there."""
        self.create(annotations, **changes)
        await self.settle(2)
        self.provision()
        await self.settle()
        assert self.see(Job.RESOURCE, KEY) is not None, self.conditions()

    async def succeed(self, **changes: Any) -> None:
        await self.begin(**changes)
        self.run_pod("Succeeded", 0, words())
        self.end_job("Complete")
        await self.settle()

    # ---- what there is ----

    def see(self, resource: Any, key: Key) -> dict[str, Any] | None:
        return self.api.see(resource, key)

    def get(self, resource: Any, key: Key) -> dict[str, Any]:
        found = self.see(resource, key)
        assert found is not None, key
        return found

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get(Workspace.RESOURCE, KEY).get("status") or {}
        return status

    def conditions(self) -> dict[str, tuple[str, str]]:
        return {c["type"]: (c["status"], c["reason"]) for c in self.status().get("conditions", [])}

    def message(self, kind: str) -> str:
        found: str = next(c for c in self.status()["conditions"] if c["type"] == kind)["message"]
        return found

    @property
    def bought(self) -> int:
        machines = [c for c in self.api.calls if c[0] == "POST" and c[1].endswith("/machines")]
        return len(machines)

    def warnings(self) -> list[str]:
        return [reason for type_, reason in self.told.reasons if type_ == "Warning"]


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ---- from the wish to the Job ----


async def test_the_whole_way_from_a_wish_to_a_result_and_a_released_node(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    assert rig.bought == 1
    assert rig.see(Job.RESOURCE, KEY) is None
    assert rig.conditions()["JobStarted"] == ("False", "WorkspaceTuningJobStatusPending")
    assert rig.status()["state"] == "Pending"

    rig.provision()
    await rig.settle()
    job = rig.get(Job.RESOURCE, KEY)
    assert rig.get(ConfigMap.RESOURCE, COPY)["data"] == {"training_config.yaml": DEFAULTS}
    assert rig.conditions()["InferenceReady"] == ("False", "TuningPending")

    rig.run_pod("Running")
    await rig.settle()
    assert rig.conditions()["JobStarted"] == ("True", "WorkspaceTuningJobStatusStarted")
    assert rig.conditions()["InferenceReady"] == ("False", "TuningRunning")
    assert rig.conditions()["WorkspaceReady"] == ("False", "workspacePending")
    assert rig.status()["state"] == "Running"

    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    await rig.settle()
    assert rig.see(Machine.RESOURCE, CLAIM) is None
    assert rig.conditions() == {
        "ResourceReady": ("True", "ReleasedAfterTuning"),
        "InferenceReady": ("True", "TuningSucceeded"),
        "JobStarted": ("True", "WorkspaceTuningJobStatusStarted"),
        "WorkspaceReady": ("True", "workspaceReady"),
        "WorkspaceSucceeded": ("True", "workspaceSucceeded"),
    }
    status = rig.status()
    assert status["state"] == "Succeeded"
    assert status["workerNodes"] == []
    assert status["slots"] == []
    assert status["tuning"] == {
        "run": job["metadata"]["annotations"][labels.SPEC_HASH],
        "result": "Succeeded",
        "reason": "TuningSucceeded",
        "message": f"the result is in {OUTPUT}@{DIGEST}",
        "step": 9,
        "totalSteps": 9,
        "epoch": 3.0,
        "loss": 0.5,
        "startedAt": "2026-01-01T00:10:00Z",
        "finishedAt": "2026-01-01T01:00:01Z",
        "image": OUTPUT,
        "digest": DIGEST,
        "resourceReleased": True,
    }
    assert rig.warnings() == []
    reasons = [reason for _, reason in rig.told.reasons]
    assert reasons.count("WorkspaceTuningJobStatusStarted") == 1
    assert reasons.count("TuningSucceeded") == 1


async def test_a_config_of_ones_own_is_mounted_as_it_is(rig: Rig) -> None:
    rig.configure(DEFAULTS, Key("team", "mine"))
    await rig.begin(config="mine")
    (volume,) = [
        each
        for each in rig.get(Job.RESOURCE, KEY)["spec"]["template"]["spec"]["volumes"]
        if each["name"] == "config"
    ]
    assert volume["configMap"]["name"] == "mine"
    assert rig.see(ConfigMap.RESOURCE, COPY) is None


@pytest.mark.parametrize(
    ("text", "reason", "words_"),
    [
        (None, "TuningConfigMissing", "ConfigMap team/mine, which is not there"),
        ("training_config: {X: {}}", "TuningConfigUnusable", "training_config.X is no section"),
    ],
)
async def test_no_node_is_paid_for_before_the_config_can_be_used(
    rig: Rig, text: str | None, reason: str, words_: str
) -> None:
    if text is not None:
        rig.configure(text, Key("team", "mine"))
    rig.create(config="mine")
    result = await rig.reconcile()
    await rig.settle()
    assert result.after == 30.0
    assert rig.bought == 0
    assert rig.conditions()["InferenceReady"] == ("False", reason)
    assert words_ in rig.message("InferenceReady")
    assert words_ in rig.message("ResourceReady")
    assert rig.warnings() == [reason]

    rig.configure(DEFAULTS, Key("team", "mine"))
    await rig.settle(2)
    assert rig.bought == 1


async def test_a_config_that_may_not_be_read_is_said_and_keeps_no_node(rig: Rig) -> None:
    mine = Key("team", "mine")
    rig.configure(DEFAULTS, mine)
    await rig.begin(config="mine")
    rig.run_pod("Failed", 4, words(error="full", digest=None))
    rig.end_job("Failed", "PodFailurePolicy")
    no = Blocked("Forbidden", "may not get configmaps")
    rig.api.fault = lambda verb, path: no if "/configmaps/mine" in path else None
    await rig.settle()
    assert rig.see(Machine.RESOURCE, CLAIM) is None
    assert rig.conditions()["InferenceReady"] == ("False", "TuningConfigUnusable")
    assert "cannot be read: may not get configmaps" in rig.message("InferenceReady")


async def test_a_node_that_waits_for_a_config_is_said_to_be_paid_for(rig: Rig) -> None:
    mine = Key("team", "mine")
    rig.configure(DEFAULTS, mine)
    rig.create(config="mine")
    await rig.settle(2)
    rig.api.remove(ConfigMap.RESOURCE, mine)
    rig.provision()
    await rig.settle()
    assert rig.see(Job.RESOURCE, KEY) is None
    assert rig.conditions()["ResourceReady"][0] == "False"
    assert rig.message("ResourceReady").startswith("its node is kept, and paid for, until")
    rig.configure(DEFAULTS, mine)
    await rig.settle()
    assert rig.see(Job.RESOURCE, KEY) is not None


async def test_what_was_heard_of_the_run_before_is_not_told_of_the_next(rig: Rig) -> None:
    await rig.begin()
    rig.heard.said[KEY] = Progress(step=500)
    await rig.settle(1)
    assert "step" not in rig.status()["tuning"]
    rig.run_pod("Running")
    await rig.settle(1)
    assert rig.status()["tuning"]["step"] == 500


async def test_without_the_charts_defaults_the_person_is_told_who_can_help(rig: Rig) -> None:
    rig.api.remove(ConfigMap.RESOURCE, TEMPLATE)
    rig.create()
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningConfigMissing")
    assert "helm upgrade" in rig.message("InferenceReady")
    assert rig.bought == 0


async def test_a_job_of_somebody_else_is_left_alone_and_costs_no_node(rig: Rig) -> None:
    rig.api.put(Job.RESOURCE, {"metadata": {"name": KEY.name, "namespace": KEY.namespace}})
    rig.create()
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "NameTaken")
    assert rig.bought == 0
    assert rig.see(Job.RESOURCE, KEY) is not None


async def test_the_job_of_an_earlier_workspace_of_the_name_is_waited_for(rig: Rig) -> None:
    owner = {"apiVersion": "kaito.sh/v1alpha1", "kind": "Workspace", "name": KEY.name, "uid": "u-0"}
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "ownerReferences": [owner]}
    rig.api.put(Job.RESOURCE, {"metadata": metadata})
    rig.create()
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningPending")
    assert "earlier Workspace" in rig.message("ResourceReady")
    assert rig.bought == 0
    rig.api.remove(Job.RESOURCE, KEY)
    await rig.settle(2)
    assert rig.bought == 1


async def test_defaults_that_cannot_be_used_are_told_before_a_node_is_paid_for(rig: Rig) -> None:
    rig.configure("training_config: {LoraConfig: 8}", TEMPLATE)
    rig.create()
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningConfigUnusable")
    assert f"ConfigMap {TEMPLATE} with the defaults" in rig.message("InferenceReady")
    assert rig.bought == 0


async def test_a_config_map_of_somebody_else_is_not_written_over(rig: Rig) -> None:
    rig.configure("mine: true", COPY)
    rig.create()
    await rig.settle(2)
    assert rig.conditions()["InferenceReady"] == ("False", "NameTaken")
    assert "name it in tuning.config" in rig.message("InferenceReady")
    assert rig.bought == 0
    assert rig.get(ConfigMap.RESOURCE, COPY)["data"] == {"training_config.yaml": "mine: true"}


async def test_a_config_map_that_appears_before_the_start_is_not_written_over(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    rig.provision()
    reads = 0

    def appear(verb: str, path: str) -> None:
        nonlocal reads
        reads += path.endswith(COPY.name)
        if path.endswith(COPY.name) and reads == 2:
            rig.configure("mine: true", COPY)

    rig.api.fault = appear
    with pytest.raises(Blocked, match="exists and is not ours"):
        await rig.reconcile()
    assert rig.conditions()["InferenceReady"] == ("False", "NameTaken")
    assert rig.get(ConfigMap.RESOURCE, COPY)["data"] == {"training_config.yaml": "mine: true"}
    assert rig.see(Job.RESOURCE, KEY) is None


async def test_defaults_that_vanish_between_look_and_start_are_looked_for_again(rig: Rig) -> None:
    rig.create()
    await rig.settle(2)
    rig.provision()
    reads = 0

    def vanish(verb: str, path: str) -> NotFound | None:
        nonlocal reads
        reads += path.endswith(TEMPLATE.name)
        return NotFound("NotFound", "gone") if path.endswith(TEMPLATE.name) and reads > 1 else None

    rig.api.fault = vanish
    with pytest.raises(Stale):
        await rig.reconcile()
    assert rig.see(Job.RESOURCE, KEY) is None


async def test_a_volume_of_the_users_is_judged_before_a_node_is_paid_for(rig: Rig) -> None:
    rig.create(input={"volumeSource": {"hostPath": {"path": "/data"}}})
    await rig.settle(2)
    vetted = [call for call in rig.api.calls if call[0] == "PATCH" and "/jobs/" in call[1]]
    assert len(vetted) == 1
    assert rig.bought == 1
    assert rig.see(Job.RESOURCE, KEY) is None


# ---- a run ----


async def test_what_the_training_says_of_itself_is_in_the_status(rig: Rig) -> None:
    await rig.begin()
    rig.run_pod("Running")
    rig.heard.said[KEY] = Progress(step=3, total_steps=9, epoch=1.0, loss=0.7)
    await rig.settle()
    told = rig.status()["tuning"]
    assert (told["step"], told["totalSteps"], told["loss"]) == (3, 9, 0.7)
    assert "resourceReleased" not in told

    rig.start()
    before = len(rig.api.calls)
    await rig.settle()
    assert [call for call in rig.api.calls[before:] if call[0] != "GET"] == []
    assert rig.status()["tuning"] == told


async def test_a_pod_that_failed_may_be_followed_by_one_that_does_not(rig: Rig) -> None:
    await rig.begin()
    rig.run_pod("Failed", 1, words(error="boom", digest=None), name="tune-first")
    job = rig.get(Job.RESOURCE, KEY)
    job["status"] = {"failed": 1, "active": 1}
    rig.api.put(Job.RESOURCE, job)
    rig.run_pod("Running")
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningRunning")
    assert "1 pod has failed before" in rig.message("InferenceReady")
    assert "boom" in rig.message("InferenceReady")
    assert rig.status()["state"] == "Running"
    assert rig.warnings() == []


async def test_trouble_with_a_pod_is_told_while_the_job_still_hopes(rig: Rig) -> None:
    await rig.begin()
    uid = rig.get(Job.RESOURCE, KEY)["metadata"]["uid"]
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    status = {"name": KEY.name, "state": {"waiting": waiting}}
    pod = job_pod(POD.name, KEY.namespace, KEY.name, uid)
    pod["status"] = {"phase": "Pending", "containerStatuses": [status]}
    rig.api.put(Pod.RESOURCE, pod)
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "ImagePullError")
    assert rig.conditions()["JobStarted"] == ("False", "WorkspaceTuningJobStatusPending")
    assert rig.status()["state"] == "Pending"
    assert rig.warnings() == ["ImagePullError"]


# ---- after a run ----


async def test_a_failure_is_recorded_before_anything_is_given_up(rig: Rig) -> None:
    await rig.begin()
    rig.run_pod("Failed", 4, words(error="needs 20 GiB, has 16", digest=None, step=2))
    rig.end_job("Failed", "BackoffLimitExceeded", failed=3)
    await rig.reconcile()
    assert rig.see(Machine.RESOURCE, CLAIM) is not None
    assert rig.status()["tuning"]["result"] == "Failed"

    rig.start()  # a crash here loses nothing
    await rig.settle()
    rig.lose_everything()
    await rig.settle()
    assert rig.see(Machine.RESOURCE, CLAIM) is None
    assert rig.conditions()["InferenceReady"] == ("False", "TuningOutOfMemory")
    assert rig.conditions()["JobStarted"] == ("False", "WorkspaceTuningJobStatusFailed")
    assert rig.conditions()["ResourceReady"] == ("True", "ReleasedAfterTuning")
    assert "needs 20 GiB, has 16" in rig.message("InferenceReady")
    assert rig.message("JobStarted") == "the run has failed: see InferenceReady"
    assert rig.message("WorkspaceReady").endswith("More in InferenceReady.")
    assert rig.status()["state"] == "Failed"
    assert rig.status()["tuning"]["step"] == 2
    assert rig.warnings() == ["TuningOutOfMemory"]
    assert rig.bought == 1


async def test_what_is_done_is_never_done_again(rig: Rig) -> None:
    await rig.succeed()
    rig.lose_everything()
    rig.configure("training_config: {LoraConfig: {r: 4}}", TEMPLATE)  # an upgrade of the chart
    rig.start()
    before, told = len(rig.api.calls), rig.status()
    rig.now += timedelta(days=3)
    await rig.settle()
    assert [call for call in rig.api.calls[before:] if call[0] != "GET"] == []
    assert rig.status() == told
    assert rig.bought == 1


async def test_the_last_words_are_asked_of_the_api_server_once(rig: Rig) -> None:
    """A cache may show the Job's end before the pod's."""
    await rig.begin()
    rig.run_pod("Running")
    rig.sync()
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    fill(rig.caches.jobs, rig.api)
    await rig.work.reconcile(KEY, 0)
    assert rig.status()["tuning"]["digest"] == DIGEST


async def test_last_words_that_cannot_be_read_yet_are_waited_for(rig: Rig) -> None:
    await rig.begin()
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    rig.api.fault = lambda verb, path: (
        Transient("Down", "no answer") if path.endswith("/pods") else None
    )
    with pytest.raises(Transient):
        await rig.reconcile()
    assert "result" not in rig.status()["tuning"]
    rig.api.fault = lambda verb, path: None
    await rig.settle()
    assert rig.status()["tuning"]["digest"] == DIGEST


async def test_a_run_past_the_installations_deadline_says_so(rig: Rig) -> None:
    await rig.begin()
    rig.end_job("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningDeadlineExceeded")


async def test_a_job_that_failed_without_a_pod_repeats_what_its_controller_says(rig: Rig) -> None:
    await rig.begin()
    rig.end_job("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningFailed")
    assert "backoff limit" in rig.message("InferenceReady")


async def test_a_deletion_of_the_node_that_is_refused_does_not_undo_the_success(rig: Rig) -> None:
    await rig.begin()
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    rig.api.fault = lambda verb, path: Transient("Down", "no answer") if verb == "DELETE" else None
    await rig.reconcile()
    for failures in range(3):
        rig.sync()
        with pytest.raises(Transient):
            await rig.work.reconcile(KEY, failures)
    assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")
    assert rig.conditions()["ResourceReady"] == ("Unknown", "Down")
    rig.api.fault = lambda verb, path: None
    await rig.settle()
    assert rig.conditions()["ResourceReady"] == ("True", "ReleasedAfterTuning")


# ---- keeping the node ----


async def test_an_annotation_keeps_the_node_and_its_end_gives_it_up(rig: Rig) -> None:
    await rig.begin({labels.KEEP_NODE: "true"})
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    await rig.settle()
    assert rig.see(Machine.RESOURCE, CLAIM) is not None
    assert rig.conditions()["ResourceReady"] == ("True", "KeptAfterTuning")
    assert rig.conditions()["WorkspaceReady"] == ("True", "workspaceReady")
    assert rig.status()["tuning"]["resourceReleased"] is False

    rig.annotate(**{labels.KEEP_NODE: "false"})
    await rig.settle()
    assert rig.see(Machine.RESOURCE, CLAIM) is None
    assert rig.status()["tuning"]["resourceReleased"] is True


async def test_a_kept_node_that_is_lost_is_not_bought_again() -> None:
    rig = Rig(release_node=False)
    await rig.succeed()
    assert rig.see(Machine.RESOURCE, CLAIM) is not None
    rig.api.remove(Machine.RESOURCE, CLAIM)
    rig.api.remove(Node.RESOURCE, NODE)
    await rig.settle()
    assert rig.bought == 1
    assert rig.conditions()["ResourceReady"] == ("True", "ReleasedAfterTuning")


async def test_the_annotation_goes_before_the_setting() -> None:
    rig = Rig(release_node=False)
    await rig.begin({labels.KEEP_NODE: "false"})
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    await rig.settle()
    assert rig.see(Machine.RESOURCE, CLAIM) is None


async def test_an_existing_node_is_given_back() -> None:
    rig = Rig(byo=True)
    rig.make_node({"apps": "tune"})
    rig.create()
    await rig.settle()
    assert rig.get(Node.RESOURCE, NODE)["metadata"]["labels"][labels.RESERVED_FOR] == UID
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    await rig.settle()
    assert labels.RESERVED_FOR not in rig.get(Node.RESOURCE, NODE)["metadata"]["labels"]
    assert rig.status()["tuning"]["resourceReleased"] is True


# ---- another run ----


@pytest.mark.parametrize("how", ["input", "annotation"])
async def test_another_wish_runs_anew_after_the_node_was_given_up(rig: Rig, how: str) -> None:
    await rig.succeed()
    first = rig.status()["tuning"]["run"]
    if how == "input":
        rig.edit(input={"urls": ["https://example.com/other.parquet"]})
    else:
        rig.annotate(**{labels.TUNING_RUN: "2"})
    await rig.settle(2)
    assert rig.bought == 2
    assert rig.conditions()["ResourceReady"][0] == "False"
    assert rig.conditions()["WorkspaceReady"] == ("False", "workspacePending")
    told = rig.status()["tuning"]
    assert told["run"] != first
    assert not {"result", "digest", "finishedAt", "resourceReleased"} & told.keys()

    rig.provision()
    await rig.settle()
    assert rig.get(Job.RESOURCE, KEY)["metadata"]["annotations"][labels.SPEC_HASH] == told["run"]


async def test_the_job_before_is_gone_before_the_next_is_judged(rig: Rig) -> None:
    """The API server would take the judged Job for a change of the old one, and refuse it."""
    await rig.succeed(input={"volumeSource": {"hostPath": {"path": "/data"}}})
    job = rig.get(Job.RESOURCE, KEY)
    job["metadata"]["finalizers"] = ["foregroundDeletion"]
    rig.api.put(Job.RESOURCE, job)
    before = len(rig.api.calls)
    rig.annotate(**{labels.TUNING_RUN: "2"})
    await rig.settle(3)
    writes = [call[0] for call in rig.api.calls[before:] if "/jobs" in call[1]]
    assert writes == ["DELETE"]
    assert rig.bought == 1
    assert "the Job of the run before" in rig.message("ResourceReady")

    rig.lose_everything()
    await rig.settle(2)
    assert rig.bought == 2


async def test_another_run_waits_until_the_node_of_the_one_before_is_gone(rig: Rig) -> None:
    await rig.begin()
    claim = rig.get(Machine.RESOURCE, CLAIM)
    claim["metadata"]["finalizers"] = [labels.TERMINATION_FINALIZER]
    rig.api.put(Machine.RESOURCE, claim)
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    await rig.settle()
    assert rig.message("ResourceReady") == "the run has ended, and its node is being given up"
    assert rig.status()["tuning"]["resourceReleased"] is False

    rig.annotate(**{labels.TUNING_RUN: "2"})
    await rig.settle()
    assert f"Machine {CLAIM.name} of the run before" in rig.message("ResourceReady")
    assert rig.bought == 1
    rig.api.remove(Machine.RESOURCE, CLAIM)
    await rig.settle(2)
    assert rig.bought == 2


async def test_an_edit_ends_the_job_before_the_next_is_made(rig: Rig) -> None:
    await rig.begin()
    job = rig.get(Job.RESOURCE, KEY)
    job["metadata"]["finalizers"] = ["foregroundDeletion"]
    rig.api.put(Job.RESOURCE, job)
    rig.run_pod("Running")
    await rig.settle()

    rig.edit(input={"urls": ["https://example.com/other.parquet"]})
    await rig.settle()
    old = rig.get(Job.RESOURCE, KEY)["metadata"]
    assert "deletionTimestamp" in old
    assert old["annotations"] == job["metadata"]["annotations"]
    assert rig.message("InferenceReady") == "the run before is being ended"

    rig.lose_everything()
    await rig.settle()
    new = rig.get(Job.RESOURCE, KEY)["metadata"]
    assert new["annotations"] != job["metadata"]["annotations"]
    assert rig.bought == 1


async def test_a_mended_config_runs_a_failure_again_but_never_a_success(rig: Rig) -> None:
    mine = Key("team", "mine")
    rig.configure(DEFAULTS, mine)
    await rig.begin(config="mine")
    rig.run_pod("Failed", 2, words(error="r is 0", digest=None))
    rig.end_job("Failed", "PodFailurePolicy")
    await rig.settle()
    assert rig.bought == 1
    assert "Edit ConfigMap mine" in rig.message("InferenceReady")
    rig.configure("training_config: {X: {}}", mine)
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningConfigUnusable")
    assert "training_config.X" in rig.message("InferenceReady")
    assert rig.bought == 1

    rig.configure(DEFAULTS + "  LoraConfig: {r: 8}\n", mine)
    await rig.settle(3)
    assert rig.bought == 2
    rig.provision()
    await rig.settle()
    rig.run_pod("Succeeded", 0, words())
    rig.end_job("Complete")
    await rig.settle()
    assert rig.status()["state"] == "Succeeded"

    rig.configure(DEFAULTS, mine)
    await rig.settle()
    assert rig.status()["state"] == "Succeeded"
    assert rig.bought == 2


async def test_a_config_that_is_taken_away_ends_no_run(rig: Rig) -> None:
    mine = Key("team", "mine")
    rig.configure(DEFAULTS, mine)
    await rig.begin(config="mine")
    rig.run_pod("Running")
    await rig.settle()
    rig.api.remove(ConfigMap.RESOURCE, mine)
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningRunning")
    rig.run_pod("Failed", 1, words(error="boom", digest=None))
    rig.end_job("Failed", "BackoffLimitExceeded")
    await rig.settle()
    assert rig.conditions()["InferenceReady"] == ("False", "TuningFailed")


async def test_a_preset_that_a_later_version_lacks_does_not_undo_a_success(rig: Rig) -> None:
    await rig.succeed()
    found = rig.get(Workspace.RESOURCE, KEY)
    rig.start()
    knowledge = Knowledge(catalog(), sku_table("aws"))  # where the size is unknown
    object.__setattr__(rig.work.observer, "knowledge", knowledge)
    await rig.settle()
    assert rig.get(Workspace.RESOURCE, KEY)["status"] == found["status"]


async def test_deletion_takes_the_node_first_and_then_the_job(rig: Rig) -> None:
    await rig.begin()
    found = rig.get(Workspace.RESOURCE, KEY)
    found["metadata"]["deletionTimestamp"] = rig.now.isoformat()
    rig.api.put(Workspace.RESOURCE, found)
    await rig.settle()
    assert rig.see(Machine.RESOURCE, CLAIM) is None
    assert rig.see(Job.RESOURCE, KEY) is None
    assert rig.see(Workspace.RESOURCE, KEY) is None
