"""The emulator as one object: state, background work and https server, started and ended together.

Invariant: when `start` yields, everything that was under way is under way again and the server
answers; when it ends, no task and no socket is left, and the folder holds all there is to know.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controlkit.clock import Clock, SystemClock
from sandbox.aks.agentpools import AgentPools
from sandbox.aks.arm import Arm
from sandbox.aks.calls import CallLog
from sandbox.aks.compute import Compute
from sandbox.aks.control import Control
from sandbox.aks.identity import Tokens, instance_discovery, openid_configuration
from sandbox.aks.operations import Operations
from sandbox.aks.pki import Pki, ensure_pki
from sandbox.aks.server import bound_socket, serving
from sandbox.aks.settings import Cluster, Settings
from sandbox.aks.store import Store
from sandbox.aks.tasks import Tasks
from sandbox.aks.world import World
from sandbox.nodes.driver import NodeDriver, NoNodes

log = structlog.get_logger(__name__)

METHODS = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"]


@dataclass(frozen=True)
class Emulator:
    """A running emulator.

    Attributes:
        url: its address; ARM endpoint and AAD authority at once.
        ca: the CA certificate that clients have to trust.
        cluster: the names under which the cluster is known.
    """

    url: str
    ca: Path
    cluster: Cluster

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        state: Path,
        *,
        cluster: Cluster | None = None,
        settings: Settings | None = None,
        driver: NodeDriver | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        pki: Pki | None = None,
        clock: Clock | None = None,
        open_control: bool = False,
    ) -> AsyncIterator["Emulator"]:
        """Runs an emulator on a state folder for as long as the context lasts.

        Without `pki`, certificates are made in `state/pki`; without `driver`, no Nodes appear. The
        control API answers this host alone, unless it is made open.

        Raises:
            StateInUseError: another emulator has the folder.
            OSError: the address can't be bound.
        """
        cluster = cluster or Cluster()
        pki = pki or ensure_pki(state / "pki", ["localhost", "127.0.0.1", "::1", host])
        with closing(Store(state)) as store, closing(bound_socket(host, port)) as listener:
            world = World(cluster, settings or Settings(), store, clock or SystemClock())
            shown = f"[{host}]" if ":" in host else host
            url = f"https://{shown}:{listener.getsockname()[1]}"
            async with Tasks() as tasks:
                operations = Operations(world, driver or NoNodes(), tasks)
                operations.resume()
                app = application(world, operations, open_control=open_control)
                async with serving(app, listener, certificate=pki.certificate, key=pki.key):
                    log.info("emulator ready", url=url, ca=str(pki.ca), state=str(state))
                    yield cls(url, pki.ca, cluster)


def application(world: World, operations: Operations, *, open_control: bool) -> Starlette:
    """Builds the web application: health, discovery, control API, and ARM for all the rest."""
    calls = CallLog(world.store)
    pools = AgentPools(world, operations)
    arm = Arm(world, pools, Compute(world), calls, Tokens(world))
    control = Control(world, operations, calls, open_to_all=open_control)

    async def healthy(_: Request) -> Response:
        return JSONResponse({"status": "ok", "pools": len(world.pools)})

    async def openid(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return JSONResponse(openid_configuration(base, request.path_params["tenant"]))

    async def instance(request: Request) -> Response:
        base, host = str(request.base_url).rstrip("/"), request.url.netloc
        return JSONResponse(instance_discovery(base, world.cluster.tenant, host))

    return Starlette(
        routes=[
            Route("/healthz", healthy),
            Route("/readyz", healthy),
            Route("/common/discovery/instance", instance),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", openid),
            *control.routes(),
            Route("/{path:path}", arm.handle, methods=METHODS),
        ]
    )
