"""The rules on a real API server and through the real webhook over TLS: the same verdict as offline."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from admission_cases import BROKEN, SOUND, WARNED, manifest, tuning
from admission_fuzz import KEPT_BY_SERVER, broken, edits, workspaces
from hypothesis import HealthCheck, event, given, note, seed, settings
from workspace_world import ControllerProcess
from workspace_world.process import NAMESPACE

from sandbox.controlplane import ControlPlane
from sandbox.processes import clean_environment
from workspace_controller.rules.configs import ConfigRead

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONGEST_ANSWER = 5.0
"""Seconds; the webhook's own deadline is shorter, so a later answer would be a hang."""
REFUSED_BY_SERVER = (400, 422)
REFUSED_BY_WEBHOOK = 403
Answer = tuple[int, str, list[str]]


class Server:
    """The API server, asked without a trace: everything is a dry run but `keep`."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.namespace = namespace
        self.http = httpx.Client(
            base_url=plane.url,
            verify=plane.admin.ssl_context,
            timeout=LONGEST_ANSWER,
            trust_env=False,
        )

    def create(
        self, found: dict[str, Any], version: str = "v1alpha1", strictness: str = "Ignore"
    ) -> Answer:
        return self._ask("POST", self._path(version), self.whole(found, version), strictness)

    def replace(self, found: dict[str, Any], version: str = "v1alpha1") -> Answer:
        path = f"{self._path(version)}/{found['metadata']['name']}"
        return self._ask("PUT", path, self.whole(found, version))

    def keep(self, found: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post(self._path("v1alpha1"), json=self.whole(found, "v1alpha1"))
        assert answer.is_success, answer.text
        kept: dict[str, Any] = answer.json()
        return kept

    def clear(self) -> None:
        """Deletes every Workspace that was kept."""
        assert self.http.delete(self._path("v1alpha1")).is_success
        assert self.http.get(self._path("v1alpha1")).json()["items"] == []

    def settings(self, config: ConfigRead | None) -> None:
        """Puts the ConfigMap that cases name there, or takes it away."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        self.http.delete(f"{path}/settings")
        if config is not None and config.data is not None:
            found = {"metadata": {"name": config.name}, "data": dict(config.data)}
            assert self.http.post(path, json=found).is_success

    def _path(self, version: str) -> str:
        return f"/apis/kaito.sh/{version}/namespaces/{self.namespace}/workspaces"

    def whole(self, found: dict[str, Any], version: str) -> dict[str, Any]:
        metadata = found["metadata"] | {"namespace": self.namespace}
        head = {"apiVersion": f"kaito.sh/{version}", "kind": "Workspace"}
        return head | found | {"metadata": metadata}

    def _ask(
        self, verb: str, path: str, found: dict[str, Any], strictness: str = "Ignore"
    ) -> Answer:
        answer = self.http.request(
            verb,
            path,
            params={"dryRun": "All", "fieldValidation": strictness},
            content=json.dumps(found),
            headers={"Content-Type": "application/json"},
        )
        message = answer.json().get("message", "")
        return answer.status_code, message, answer.headers.get_list("Warning")


@pytest.fixture(scope="module")
def standby(
    control_plane: ControlPlane, controller_process: ControllerProcess
) -> Iterator[ControllerProcess]:
    """A replica that is not the leader: it judges, and does nothing about what is admitted."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/workspace-controller"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "somebody else", "leaseDurationSeconds": 3600, "renewTime": now}
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "workspace-controller", "namespace": NAMESPACE},
        "spec": spec | {"acquireTime": now},
    }
    asyncio.run(control_plane.admin.apply(path, lease))
    controller_process.start(LEADER_ELECT="true")
    yield controller_process
    controller_process.stop()
    asyncio.run(control_plane.admin.call("DELETE", path))


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane, standby: ControllerProcess) -> Iterator[Server]:
    name = f"rules-{os.getpid()}"
    path = f"/api/v1/namespaces/{name}"
    asyncio.run(
        control_plane.admin.apply(
            path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
    )
    made = Server(control_plane, name)
    yield made
    made.http.close()


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
@pytest.mark.parametrize("case", SOUND)
def test_what_is_sound_is_admitted_in_both_versions(
    server: Server, case: str, version: str
) -> None:
    status, message, warnings = server.create(manifest(**SOUND[case]), version)
    assert (status, message, warnings) == (201, "", [])


ASKED = [
    name
    for name, case in BROKEN.items()
    if not case.knows and (case.config is None or not case.config.trouble)
]


@pytest.mark.parametrize("case", ASKED)
def test_what_breaks_a_rule_is_refused_with_the_field(server: Server, case: str) -> None:
    breach = BROKEN[case]
    server.settings(breach.config)
    status, message, _ = server.create(manifest(**breach.facts))
    assert status == (422 if breach.rule in KEPT_BY_SERVER else 403), message
    assert "<nil>" not in message
    assert status == 422 or breach.words in message


def test_what_may_disappoint_is_admitted_with_the_warning(server: Server) -> None:
    for _, facts, words in WARNED.values():
        status, message, warnings = server.create(manifest(**facts))
        assert (status, message) == (201, "")
        assert words.replace('"', '\\"') in "".join(warnings), warnings


LATER = manifest() | {"resource": manifest()["resource"] | {"partition": {"mode": "mig"}}}


def kubectl_apply(plane: ControlPlane, server: Server, validate: str) -> tuple[int, str]:
    done = subprocess.run(
        [
            *(str(plane.bin / "kubectl"), "--kubeconfig", str(plane.kubeconfig), "apply"),
            *("--dry-run=server", f"--validate={validate}", "-f", "-"),
        ],
        input=json.dumps(server.whole(LATER, "v1beta1")),
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stderr


def test_kubectl_refuses_a_field_that_this_version_lacks(
    control_plane: ControlPlane, server: Server
) -> None:
    status, said = kubectl_apply(control_plane, server, "strict")
    assert (status, 'unknown field "resource.partition"' in said) == (1, True), said


def test_where_kubectl_only_warns_we_say_what_the_field_would_have_done(
    control_plane: ControlPlane, server: Server
) -> None:
    status, said = kubectl_apply(control_plane, server, "warn")
    assert status == 0, said
    assert 'Warning: unknown field "resource.partition"' in said
    assert "Warning: resource.partition has no effect: this version gives a model whole" in said


def test_to_any_other_client_the_api_server_names_the_field(server: Server) -> None:
    status, message, warnings = server.create(LATER, strictness="Warn")
    assert (status, message) == (201, "")
    assert warnings == ['299 - "unknown field \\"resource.partition\\""']


@pytest.fixture
def private_urls_allowed(standby: ControllerProcess) -> Iterator[None]:
    standby.start(LEADER_ELECT="true", ALLOW_PRIVATE_DATA_URLS="true")
    yield
    standby.start(LEADER_ELECT="true")


def test_private_addresses_are_let_through_where_the_chart_says_so(
    server: Server, private_urls_allowed: None
) -> None:
    for url, status in (("http://10.0.0.1/a", 201), ("http://169.254.169.254/a", 403)):
        assert server.create(manifest(**tuning(input={"urls": [url]})))[0] == status


def test_what_the_webhook_cannot_decode_is_a_clear_denial(
    server: Server, standby: ControllerProcess
) -> None:
    """A garbled review would come from a broken proxy: it is answered, and never with a 500."""
    answer = httpx.post(
        f"https://127.0.0.1:{standby.webhook_port}/validate/workspace.kaito.sh",
        content=b'{"request": {"uid": "u", "object": ',
        verify=False,
        trust_env=False,
    )
    assert answer.status_code == 200
    assert answer.json()["response"]["allowed"] is False
    assert "not an AdmissionReview" in answer.json()["response"]["status"]["message"]


def agree(status: int, success: int, rules: set[str]) -> None:
    """The server refuses for what breaks a rule, and asks the webhook only when its own are kept."""
    event(str(status))
    note(f"rules broken offline: {sorted(rules)}")
    if not rules:
        assert status == success
    elif rules & KEPT_BY_SERVER:
        assert status in REFUSED_BY_SERVER
    else:
        assert status == REFUSED_BY_WEBHOOK


@seed(SEED)
@FUZZ
@given(workspaces())
def test_a_creation_gets_the_same_verdict_offline_and_from_the_server(
    server: Server, found: dict[str, Any]
) -> None:
    status, message, _ = server.create(found)
    note(f"{status} {message}")
    agree(status, 201, broken(found))


class Kept(list[dict[str, Any]]):
    """Every sound Workspace as the server keeps it."""

    def __repr__(self) -> str:
        return f"{len(self)} Workspaces"


@pytest.fixture(scope="module")
def there(server: Server) -> Iterator[Kept]:
    """They are gone at the end, for a controller that leads would work on them."""
    names = [f"w{number}" for number in range(len(SOUND))]
    sound = zip(SOUND.values(), names, strict=True)
    yield Kept(server.keep(manifest(**facts | {"name": name})) for facts, name in sound)
    server.clear()


@seed(SEED)
@FUZZ
@given(edits())
def test_an_update_gets_the_same_verdict_offline_and_from_the_server(
    server: Server,
    there: Kept,
    edit: tuple[int, dict[str, Any]],
) -> None:
    which, found = edit
    kept = there[which]
    metadata = found["metadata"] | {
        "name": kept["metadata"]["name"],
        "resourceVersion": kept["metadata"]["resourceVersion"],
    }
    found = found | {"metadata": metadata}
    status, message, _ = server.replace(found)
    note(f"{status} {message}")
    agree(status, 200, broken(found, kept))
