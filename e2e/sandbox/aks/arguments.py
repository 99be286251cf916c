"""The command line of the emulator, and what it teaches.

Invariant: a value that can't work is refused here, by the flag's name, before anything is started.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sandbox.aks.document import problems
from sandbox.aks.settings import NO_ID, Cluster, Settings, Timings
from sandbox.nodes.load import DRIVERS, DriverOptions

DESCRIPTION = """\
Runs an emulated Azure Kubernetes Service: one https server that is the token endpoint of Entra ID,
the agent pool API of one managed cluster, and a control API for tests under /_emulator/.
"""

EPILOGUE = """\
examples:
  # Alone, ten times faster than Azure, without Nodes:
  python -m sandbox.aks --state /tmp/aks --speed 10

  # What a client of Azure needs to use it (PORT as printed):
  export SSL_CERT_FILE=/tmp/aks/pki/ca.pem
  export ARM_ENDPOINT=https://127.0.0.1:PORT AZURE_AUTHORITY_HOST=https://127.0.0.1:PORT/

  # With Node objects in a cluster, for kwok or for controllers that only look at Nodes:
  python -m sandbox.aks --state /tmp/aks --node-driver simulated --kubeconfig ~/.kube/config

  # While it runs: make the next two creates of pools ws… fail with a full quota, and look:
  curl --cacert /tmp/aks/pki/ca.pem https://127.0.0.1:PORT/_emulator/faults \\
    -d '{"effect": "error", "error": "quota-family", "pool": "ws*", "count": 2}'
  curl --cacert /tmp/aks/pki/ca.pem https://127.0.0.1:PORT/_emulator/

Pools, operations, faults and the call log live in --state: stop or kill the emulator, start it
again, and everything goes on. docs/emulator.md says what it emulates and what it does not.
"""


@dataclass(frozen=True)
class Arguments:
    """The command line, read."""

    state: Path
    host: str
    port: int
    open_control: bool
    certificate: Path | None
    key: Path | None
    pki: Path
    tls_names: tuple[str, ...]
    cluster: Cluster
    settings: Settings
    driver: str
    driver_options: DriverOptions


def parsed(argv: Sequence[str]) -> Arguments:
    """Reads the command line; ends the program with an explanation when it can't work."""
    parser = _parser()
    given = parser.parse_args(argv)
    if (given.cert is None) != (given.key is None):
        parser.error("--cert and --key go together; give both, or neither to have them made")
    if given.node_driver in ("simulated", "process") and given.kubeconfig is None:
        parser.error(f"--node-driver {given.node_driver} needs --kubeconfig")
    try:
        settings = _settings(given)
    except ValidationError as error:
        parser.error("; ".join(problems(error)))
    return Arguments(
        state=given.state,
        host=given.host,
        port=given.port,
        open_control=given.control_from == "anywhere",
        certificate=given.cert,
        key=given.key,
        pki=given.pki or given.state / "pki",
        tls_names=tuple(given.tls_name),
        cluster=_cluster(given),
        settings=settings,
        driver=given.node_driver,
        driver_options=DriverOptions(
            kubeconfig=given.kubeconfig,
            folder=given.state / "nodes",
            sandbox=given.sandbox,
            ready_seconds=settings.scaled(settings.timings.ready),
            runtime_python=given.runtime_python,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.aks",
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    server = parser.add_argument_group("server")
    server.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="folder that holds all state"
    )
    server.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    server.add_argument(
        "--port", type=int, default=0, help="port; 0 takes a free one (%(default)s)"
    )
    server.add_argument(
        "--control-from",
        choices=("host", "anywhere"),
        default="host",
        help="who may use the control API; it asks for no password (%(default)s)",
    )
    server.add_argument("--cert", type=Path, metavar="FILE", help="server certificate (PEM)")
    server.add_argument("--key", type=Path, metavar="FILE", help="its key (PEM)")
    server.add_argument(
        "--pki",
        type=Path,
        metavar="DIR",
        help="without --cert: folder for a CA and certificate made here; ca.pem in it is what"
        " clients have to trust (STATE/pki)",
    )
    server.add_argument(
        "--tls-name",
        action="append",
        default=[],
        metavar="NAME",
        help="further name or address in the certificate; may be repeated",
    )
    _add_cluster(parser)
    _add_nodes(parser)
    _add_time(parser)
    return parser


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    known = Cluster()
    cluster = parser.add_argument_group("the cluster, as clients name it")
    cluster.add_argument("--location", default=known.location, help="region (%(default)s)")
    cluster.add_argument("--subscription", default=NO_ID, help="subscription id (all zeros)")
    cluster.add_argument("--resource-group", default=known.resource_group, help="(%(default)s)")
    cluster.add_argument("--cluster", default=known.name, help="cluster name (%(default)s)")
    cluster.add_argument("--tenant-id", default=NO_ID, help="Entra tenant (all zeros)")
    cluster.add_argument("--client-id", default=NO_ID, help="application id (all zeros)")
    cluster.add_argument(
        "--federated-subject",
        default="",
        metavar="SUBJECT",
        help="subject that a client's assertion must carry, as in"
        " system:serviceaccount:gpu-provisioner:gpu-provisioner (any)",
    )


def _add_nodes(parser: argparse.ArgumentParser) -> None:
    nodes = parser.add_argument_group("nodes")
    nodes.add_argument(
        "--node-driver",
        choices=sorted(DRIVERS),
        default="none",
        help="; ".join(f"{name}: {text}" for name, text in DRIVERS.items()) + " (%(default)s)",
    )
    nodes.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="admin access to the cluster of the Nodes"
    )
    nodes.add_argument(
        "--sandbox",
        type=Path,
        default=Path(".sandbox"),
        metavar="DIR",
        help="sandbox folder, for the kubelet driver (%(default)s)",
    )
    nodes.add_argument(
        "--runtime-python",
        type=Path,
        default=Path("runtimes/.venv/bin/python"),
        metavar="FILE",
        help="python of the model runtime, for the process driver (%(default)s)",
    )


def _add_time(parser: argparse.ArgumentParser) -> None:
    known = Timings()
    time = parser.add_argument_group("time, in emulated seconds")
    time.add_argument("--speed", type=float, default=1.0, help="emulated seconds per second (1)")
    time.add_argument(
        "--throttle",
        choices=("on", "off"),
        default="on",
        help="the request limits of AKS: 20 pool PUTs, then 1 a minute, … (%(default)s)",
    )
    for name, text in (
        ("join", "from the accepted PUT to a registered Node"),
        ("join-spread", "by how much later, at most, each further VM of one PUT registers"),
        ("ready", "from the registered Node to a Ready one"),
        ("gpu", "from the Ready Node to nvidia.com/gpu in its status"),
        ("operation", "from the accepted PUT to its end"),
        ("update", "of a PUT that adds and removes no VM"),
        ("remove", "from an accepted DELETE to its end"),
    ):
        value = getattr(known, name.replace("-", "_"))
        default = "when its Nodes are Ready" if value is None else f"{value:g}"
        time.add_argument(
            f"--{name}-seconds", type=float, default=value, metavar="N", help=f"{text} ({default})"
        )


def _settings(given: argparse.Namespace) -> Settings:
    timings = {
        name: getattr(given, f"{name}_seconds")
        for name in ("join", "join_spread", "ready", "gpu", "operation", "update", "remove")
    }
    return Settings.model_validate(
        {
            "speed": given.speed,
            "throttle": given.throttle == "on",
            "timings": timings,
            "federatedSubject": given.federated_subject,
        }
    )


def _cluster(given: argparse.Namespace) -> Cluster:
    return Cluster(
        location=given.location,
        subscription=given.subscription,
        resource_group=given.resource_group,
        name=given.cluster,
        tenant=given.tenant_id,
        client=given.client_id,
    )
