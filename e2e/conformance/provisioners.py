"""The provisioners that the suite knows to start, and what each has to be told.

Invariant: a provisioner is a program with settings; nothing here looks inside, and what it can't be
told is said to be so rather than guessed.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from conformance import karpenter
from conformance.suite import Kind, NotObserved
from controlkit.kube.client import KubeClient
from gpuapis.nodeclaim import KaitoNodeClass
from sandbox.aks.emulator import Emulator
from sandbox.errors import SandboxError

Knob = Literal[
    "registration-timeout", "launch-timeout", "repair-after", "elect", "writes-per-minute"
]
"""What a behaviour may want to be set; a provisioner need not have it."""

Reference = Mapping[str, str]

KAITO_CLASS: Final[Reference] = {
    "group": KaitoNodeClass.RESOURCE.group,
    "kind": KaitoNodeClass.RESOURCE.kind,
    "name": "default",
}


@dataclass(frozen=True)
class Surroundings:
    """What a started provisioner finds around it."""

    kubeconfig: Path
    emulator: Emulator
    token_file: Path
    folder: Path

    def azure(self) -> dict[str, str]:
        """The settings by which a program finds its Azure; the emulated one here."""
        cluster, url = self.emulator.cluster, self.emulator.url
        return {
            "ARM_ENDPOINT": url,
            "AZURE_AUTHORITY_HOST": f"{url}/",
            "SSL_CERT_FILE": str(self.emulator.ca),
            "AZURE_TENANT_ID": cluster.tenant,
            "AZURE_CLIENT_ID": cluster.client,
            "AZURE_FEDERATED_TOKEN_FILE": str(self.token_file),
            "ARM_SUBSCRIPTION_ID": cluster.subscription,
            "ARM_RESOURCE_GROUP": cluster.resource_group,
            "AZURE_CLUSTER_NAME": cluster.name,
            "AZURE_NODE_RESOURCE_GROUP": cluster.node_resource_group,
            "LOCATION": cluster.location,
        }


@dataclass(frozen=True)
class Program:
    """A program as it is to be started.

    Attributes:
        argv: the command.
        env: what it finds in its environment, on top of PATH and the like.
        ready: URL that answers 200 once it works.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: str


class Provisioner(Protocol):
    """One kind of provisioner."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The claim APIs that it serves."""
        ...

    @property
    def node_class(self) -> Reference:
        """The class by which a NodeClaim says that it is its."""
        ...

    @property
    def aks(self) -> bool:
        """Whether the emulated AKS is its cloud."""
        ...

    def build(self) -> None:
        """Makes its program, which may take minutes.

        Raises:
            SandboxError: it can't be made.
        """
        ...

    async def install(self, client: KubeClient, folder: Path) -> None:
        """Makes the cluster what it needs: further CRDs, objects of its class."""
        ...

    def program(
        self, around: Surroundings, ports: tuple[int, int], knobs: Mapping[Knob, str]
    ) -> Program:
        """Returns how to start it, its probes and metrics on these ports.

        Raises:
            NotObserved: a knob is one that it has not.
        """
        ...


OUR_KNOBS: Final[Mapping[Knob, str]] = {
    "registration-timeout": "REGISTRATION_TIMEOUT",
    "launch-timeout": "LAUNCH_TIMEOUT",
    "elect": "LEADER_ELECT",
    "writes-per-minute": "ARM_WRITES_PER_MINUTE",
}

KARPENTERS_OWN: Final[Mapping[Knob, str]] = {
    "registration-timeout": "a node may take 15 minutes to join, fixed in its code",
    "launch-timeout": "a launch may take 5 minutes, fixed in its code",
    "repair-after": "a Node may be NotReady for 10 minutes, fixed in its code",
}


@dataclass(frozen=True)
class Ours:
    """The gpu-provisioner of this repository."""

    name: str = "ours"
    kinds: tuple[Kind, ...] = ("machine", "nodeclaim")
    node_class: Reference = field(default_factory=lambda: KAITO_CLASS)
    aks: bool = True

    def build(self) -> None:
        """Is there already."""

    async def install(self, client: KubeClient, folder: Path) -> None:
        """Needs nothing but the charts' CRDs."""

    def program(
        self, around: Surroundings, ports: tuple[int, int], knobs: Mapping[Knob, str]
    ) -> Program:
        """Returns the program as its chart's Deployment runs it."""
        if unknown := set(knobs) - set(OUR_KNOBS):
            raise NotObserved(f"it has no setting for {', '.join(sorted(unknown))}")
        health, metrics = ports
        burst = {} if "writes-per-minute" in knobs else {"ARM_WRITE_BURST": "1000"}
        env = {
            **around.azure(),
            "KUBECONFIG": str(around.kubeconfig),
            "ARM_TIMEOUT": "2s",
            "BIND_ADDRESS": "127.0.0.1",
            "HEALTH_PROBE_PORT": str(health),
            "METRICS_PORT": str(metrics),
            "LEADER_ELECT": "false",  # a killed leader's term would cost each restart 15 s
            "LEADER_ELECTION_NAMESPACE": "default",
            "COLLECT_PERIOD": "3s",
            **burst,
            **{OUR_KNOBS[knob]: value for knob, value in knobs.items()},
        }
        ready = f"http://127.0.0.1:{health}/readyz"
        return Program((sys.executable, "-m", "gpu_provisioner"), env, ready)


@dataclass(frozen=True)
class KarpenterKwok:
    """Upstream Karpenter with its kwok provider, whose machines are Node objects and no more."""

    name: str = "karpenter-kwok"
    kinds: tuple[Kind, ...] = ("nodeclaim",)
    node_class: Reference = field(default_factory=lambda: karpenter.NODE_CLASS)
    aks: bool = False

    def build(self) -> None:
        """Builds it from its Go module, once."""
        karpenter.program()

    async def install(self, client: KubeClient, folder: Path) -> None:
        """Applies its CRDs, makes its class, and tells it Azure's VM sizes."""
        await karpenter.install(client)
        karpenter.write_sizes(folder / "instance-types.json")

    def program(
        self, around: Surroundings, ports: tuple[int, int], knobs: Mapping[Knob, str]
    ) -> Program:
        """Returns the program; it has no setting for its timeouts."""
        for knob in knobs:
            if knob in KARPENTERS_OWN:
                raise NotObserved(KARPENTERS_OWN[knob])
        health, metrics = ports
        env = {
            **karpenter.environment(around.kubeconfig, around.folder / "instance-types.json"),
            "HEALTH_PROBE_PORT": str(health),
            "METRICS_PORT": str(metrics),
            "DISABLE_LEADER_ELECTION": "false" if knobs.get("elect") == "true" else "true",
        }
        ready = f"http://127.0.0.1:{health}/readyz"
        return Program((str(karpenter.program()),), env, ready)


@dataclass(frozen=True)
class Command:
    """A provisioner that somebody brings along, as a command line."""

    name: str
    kinds: tuple[Kind, ...]
    node_class: Reference
    aks: bool

    def build(self) -> None:
        """Is there already."""

    async def install(self, client: KubeClient, folder: Path) -> None:
        """Whoever brings it along has it installed by the command itself."""

    def program(
        self, around: Surroundings, ports: tuple[int, int], knobs: Mapping[Knob, str]
    ) -> Program:
        """Returns the command; it finds cluster, Azure and ports in its environment."""
        if knobs:
            raise NotObserved(f"the suite does not know how to set {', '.join(sorted(knobs))}")
        health, metrics = ports
        env = {
            **around.azure(),
            "KUBECONFIG": str(around.kubeconfig),
            "HEALTH_PROBE_PORT": str(health),
            "METRICS_PORT": str(metrics),
            "PATH": os.environ.get("PATH", ""),
        }
        return Program(tuple(shlex.split(self.name)), env, f"http://127.0.0.1:{health}/readyz")


def named(
    name: str, *, kinds: tuple[Kind, ...] = (), node_class: str = "", aks: bool = True
) -> Provisioner:
    """Returns the provisioner of that name; any other name is a command.

    Raises:
        SandboxError: the class is not written GROUP/KIND/NAME.
    """
    match name:
        case "ours":
            return Ours()
        case "karpenter-kwok":
            return KarpenterKwok()
    reference = KAITO_CLASS
    if node_class:
        parts = node_class.split("/")
        if len(parts) != 3:
            raise SandboxError(f"--node-class {node_class!r}: write it GROUP/KIND/NAME")
        reference = dict(zip(("group", "kind", "name"), parts, strict=True))
    return Command(name, kinds or ("nodeclaim",), reference, aks)
