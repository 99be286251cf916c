"""The gate before the emulated Azure: every call is logged, authenticated, counted, perhaps struck.

Invariant: whatever the client sends, it gets an answer in Azure's form, unless a fault says that it
gets none; and the call log tells which it was.
"""

import re
import uuid
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.aks.agentpools import AgentPools
from sandbox.aks.buckets import CLUSTER, LIMITS, OPERATION, OTHER, PUT_POOL
from sandbox.aks.calls import Call, CallLog
from sandbox.aks.compute import Compute
from sandbox.aks.errors import ArmError, known_error
from sandbox.aks.faults import Fault
from sandbox.aks.identity import Tokens
from sandbox.aks.paths import matched
from sandbox.aks.responses import Cut, Hang
from sandbox.aks.world import World

API_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
BUCKET_OF: Final = {"PUT": PUT_POOL, "OPERATION": OPERATION, "CLUSTER": CLUSTER}
REGIONAL: Final = frozenset({"OPERATION", "USAGES", "SKUS"})
"""Calls that name no resource group and no cluster."""
COMPUTE: Final = frozenset({"USAGES", "SKUS"})
"""Calls of another service, whose limits are its own and far away."""


class Arm:
    """Answers the calls of Azure's clients."""

    def __init__(
        self, world: World, pools: AgentPools, compute: Compute, log: CallLog, tokens: Tokens
    ) -> None:
        self._world = world
        self._log = log
        self._tokens = tokens
        self._answers: dict[str, Callable[[Call], Response]] = {
            "TOKEN": self._token,
            "PUT": pools.put,
            "GET": pools.get,
            "LIST": pools.list,
            "DELETE": pools.delete,
            "ABORT": pools.abort,
            "DELETE_MACHINES": pools.delete_machines,
            "UPGRADE": pools.upgrade,
            "MACHINES": pools.machines,
            "OPERATION": pools.operation,
            "CLUSTER": pools.cluster,
            "USAGES": compute.usages,
            "SKUS": compute.skus,
        }

    async def handle(self, request: Request) -> Response:
        """Answers one call."""
        found = matched(request.method, request.url.path)
        body = await request.body()
        call = Call(found.verb, request, self._pool_name(found.names), found.names, body)
        entry = self._log.begin(call, self._world.now())
        code, cut = "", False
        try:
            response = await self._behind_faults(call)
        except ArmError as error:
            code, response = error.code, self._refusal(error)
        except BaseException:
            entry.end(500, "", cut=True, faults=call.faults)
            raise
        status = response.status_code
        if isinstance(response, Hang):
            status = 0
        if isinstance(response, _Dropped):
            cut, response = True, response.cut
        response.headers["x-ms-request-id"] = str(uuid.uuid4())
        entry.end(status, code, cut=cut, faults=call.faults)
        return response

    def _pool_name(self, names: dict[str, str]) -> str:
        """Returns the pool that a call is about; a status URL stands for its operation's."""
        operation = self._world.operations.get(names.get("operation", ""))
        return operation.pool if operation else names.get("pool", "")

    async def _behind_faults(self, call: Call) -> Response:
        struck = self._world.strike(call.verb, call.pool, request=True)
        call.faults += [fault.id for fault in struck]
        fault = struck[0] if struck else None
        match fault.effect if fault else None:
            case "hang":
                return Hang()
            case "cut-before":
                return _Dropped(0)
            case "delay" if fault:
                await self._world.clock.sleep(fault.seconds)
            case "error" if fault:
                raise self._fault_error(call, fault)
        if fault is None or fault.effect != "cut":
            return self._answer(call)
        try:
            return _Dropped(self._answer(call).status_code)
        except ArmError as error:
            return _Dropped(error.status)

    def _answer(self, call: Call) -> Response:
        if call.verb == "TOKEN":
            return self._token(call)
        self._tokens.check(call.header("authorization"))
        if call.verb not in self._answers:
            raise known_error("path-not-found", wanted=call.request.url.path)
        self._check_version(call)
        self._check_scope(call)
        self._throttle(call)
        with self._world.store.atomic():
            return self._answers[call.verb](call)

    def _token(self, call: Call) -> Response:
        form = call.body.decode(errors="replace")
        return JSONResponse(self._tokens.answer(call.names["tenant"], form))

    def _check_version(self, call: Call) -> None:
        if not call.api_version:
            raise known_error("api-version-missing")
        if not API_VERSION.fullmatch(call.api_version):
            raise known_error("api-version-invalid", wanted=call.api_version)

    def _check_scope(self, call: Call) -> None:
        cluster, names = self._world.cluster, call.names
        if names["subscription"].lower() != cluster.subscription.lower():
            raise known_error("subscription-not-found", wanted=names["subscription"])
        if call.verb in REGIONAL:
            return
        if names["group"].lower() != cluster.resource_group.lower():
            raise known_error("group-not-found", wanted=names["group"])
        if names["cluster"].lower() != cluster.name.lower():
            raise known_error("cluster-not-found", wanted=names["cluster"], group=names["group"])

    def _throttle(self, call: Call) -> None:
        if call.verb in COMPUTE:
            return
        bucket = BUCKET_OF.get(call.verb, OTHER)
        wait = self._world.take_token(bucket)
        if wait is not None:
            raise known_error(
                "throttled",
                handler=LIMITS[bucket].handler,
                subscription=self._world.cluster.subscription,
                retry_after=wait,
            )

    def _fault_error(self, call: Call, fault: Fault) -> ArmError:
        facts = self._world.facts(call.verb, call.pool, call.body)
        return fault.answer(handler=LIMITS[BUCKET_OF.get(call.verb, OTHER)].handler, **facts)

    def _refusal(self, error: ArmError) -> Response:
        headers = dict(error.headers)
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        if error.code:
            headers["x-ms-error-code"] = error.code
        return JSONResponse(error.response_body(), error.status, headers=headers)


class _Dropped(Response):
    """Stands for an answer that was due with this status when the connection was cut."""

    def __init__(self, status: int) -> None:
        super().__init__(status_code=status)
        self.cut = Cut()
