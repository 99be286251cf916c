"""The control API for tests and for the curious: faults, settings, pools, the call log.

Invariant: it bypasses Azure's rules but not the emulator's records; what it changes survives a
restart. Every path is listed at `/_emulator/`, and a bad request is answered with what is wrong.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from typing import Any, Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from controlkit.clock import wait_for
from sandbox.aks.buckets import LIMITS
from sandbox.aks.calls import CallLog, call_json
from sandbox.aks.document import problems
from sandbox.aks.errors import ArmError, UnknownErrorNameError, catalogue
from sandbox.aks.faults import Fault
from sandbox.aks.operations import Operations
from sandbox.aks.records import Instance, Pool
from sandbox.aks.usage import usage_of
from sandbox.aks.wire import node_spec, operation_json, pool_json
from sandbox.aks.world import SYSTEM_POOL, World

Answer = Callable[[Request], Awaitable[Response]]

ROOT: Final = "/_emulator"
MAX_WAIT: Final = 60.0
RESET_SECONDS: Final = 60.0


class Json(JSONResponse):
    """JSON with a line end, for those who read it in a terminal."""

    def render(self, content: Any) -> bytes:
        """Returns the body."""
        return super().render(content) + b"\n"


class ControlRefusalError(Exception):
    """A request to the control API that can't be carried out."""

    def __init__(self, status: int, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.status = status
        self.problems = problems


class Control:
    """The routes under /_emulator/."""

    def __init__(
        self, world: World, operations: Operations, log: CallLog, *, open_to_all: bool = False
    ) -> None:
        self._open_to_all = open_to_all
        self._world = world
        self._operations = operations
        self._log = log
        self._table: list[tuple[str, str, Answer, str]] = [
            ("GET", "", self._index, "this list"),
            ("GET", "/settings", self._get_settings, "all settings"),
            ("PATCH", "/settings", self._patch_settings, "JSON merge patch of settings"),
            ("PUT", "/quota", self._put_quota, "replaces the quota: families, regional, spot"),
            ("GET", "/usage", self._usage, "vCPUs in use, and tokens left in the throttle"),
            ("GET", "/errors", self._errors, "names of errors that a fault can use"),
            ("GET", "/faults", self._get_faults, "all faults, with their hits"),
            ("POST", "/faults", self._add_fault, "adds a fault"),
            ("DELETE", "/faults", self._clear_faults, "clears all faults"),
            ("DELETE", "/faults/{fault}", self._remove_fault, "clears one fault"),
            ("GET", "/pools", self._pools, "all pools, with their VMs and running operations"),
            ("DELETE", "/pools/{pool}", self._remove_pool, "deletes a pool behind all backs"),
            ("POST", "/pools/{pool}/evict", self._evict, "evicts a VM: {node?, notice?}"),
            (
                "POST",
                "/pools/{pool}/ready",
                self._ready,
                "makes a Node (not) ready: {node?, ready}",
            ),
            ("GET", "/nodes", self._nodes, "all VMs, as their Nodes are to look"),
            ("GET", "/operations", self._operations_list, "all operations"),
            ("GET", "/calls", self._calls, "the log: ?after=&verb=&pool=&status=&limit=&wait="),
            ("GET", "/calls/tail", self._tail, "the log as it grows, one JSON line per call"),
            ("POST", "/revoke-tokens", self._revoke, "makes all access tokens invalid"),
            ("POST", "/reset", self._reset, "removes all pools, faults, changes and calls"),
        ]

    def routes(self) -> list[Route]:
        """Returns the routes for the server."""
        return [
            Route(f"{ROOT}{path or '/'}", self._admitted(_guarded(answer)), methods=[method])
            for method, path, answer, _ in self._table
        ]

    def _admitted(self, answer: Answer) -> Answer:
        """Answers this host only: it boots machines here, and asks nobody for a password."""

        async def admitted(request: Request) -> Response:
            if self._open_to_all or _from_this_host(request):
                return await answer(request)
            return Json({"problems": ["the control API answers on the emulator's own host"]}, 403)

        return admitted

    async def _index(self, _: Request) -> Response:
        lines = {f"{method} {ROOT}{path or '/'}": text for method, path, _, text in self._table}
        return Json(lines)

    async def _get_settings(self, _: Request) -> Response:
        return Json(self._world.settings.json_dict())

    async def _patch_settings(self, request: Request) -> Response:
        return Json(self._world.change_settings(await _body(request)).json_dict())

    async def _put_quota(self, request: Request) -> Response:
        body = await _body(request)
        self._world.change_settings({"quota": None})
        return Json(self._world.change_settings({"quota": body}).quota.json_dict())

    async def _usage(self, _: Request) -> Response:
        world, usage = self._world, usage_of(self._world.pools.values())
        now, speed = world.now(), world.settings.speed
        tokens = {name: round(world.buckets.level(name, now, speed), 2) for name in LIMITS}
        cores = {"families": usage.families, "regional": usage.regional, "spot": usage.spot}
        return Json({"vcpus": cores, "tokens": tokens})

    async def _errors(self, _: Request) -> Response:
        return Json({name: entry.code for name, entry in sorted(catalogue().items())})

    async def _get_faults(self, _: Request) -> Response:
        return Json([fault.json_dict() for fault in self._world.faults.all()])

    async def _add_fault(self, request: Request) -> Response:
        fault = Fault.model_validate(await _body(request))
        return Json(self._world.add_fault(fault).json_dict(), 201)

    async def _clear_faults(self, _: Request) -> Response:
        self._world.clear_faults()
        return Response(status_code=204)

    async def _remove_fault(self, request: Request) -> Response:
        wanted = request.path_params["fault"]
        if not self._world.remove_fault(wanted):
            raise ControlRefusalError(404, f"fault: there is none with the id {wanted!r}")
        return Response(status_code=204)

    async def _pools(self, _: Request) -> Response:
        return Json([self._pool_json(pool) for pool in self._world.pools.values()])

    async def _remove_pool(self, request: Request) -> Response:
        pool = self._pool(request)
        if pool.name == SYSTEM_POOL:
            raise ControlRefusalError(409, "pool: the cluster's own system pool can't go")
        self._operations.delete(pool, at_once=True)
        return Response(status_code=202)

    async def _evict(self, request: Request) -> Response:
        body = await _body(request)
        pool = self._pool(request)
        vm = self._vm(pool, body)
        await self._operations.machines.evict(pool, vm, notice=bool(body.get("notice", False)))
        return Json({"node": vm.node}, 202)

    async def _ready(self, request: Request) -> Response:
        body = await _body(request)
        pool = self._pool(request)
        vm = self._vm(pool, body)
        ready = bool(body.get("ready", True))
        if not await self._operations.machines.set_ready(pool, vm, ready=ready):
            raise ControlRefusalError(409, "ready: this node driver can't set conditions of a Node")
        return Json({"node": vm.node, "ready": ready})

    async def _nodes(self, _: Request) -> Response:
        return Json(
            [
                {"spec": _spec_json(self._world, pool, vm), **vm.json_dict()}
                for pool in self._world.pools.values()
                for vm in pool.instances
            ]
        )

    async def _operations_list(self, _: Request) -> Response:
        world = self._world
        return Json(
            [
                {**operation_json(world.cluster, item), "pool": item.pool, "kind": item.kind}
                for item in sorted(world.operations.values(), key=lambda item: item.started)
            ]
        )

    async def _calls(self, request: Request) -> Response:
        wait = min(_number(request, "wait"), MAX_WAIT)
        grown = self._log.pulse.next()
        found = self._found_calls(request)
        deadline = self._world.clock.monotonic() + wait
        while not found and (left := deadline - self._world.clock.monotonic()) > 0:
            await wait_for(self._world.clock, grown, left)
            grown = self._log.pulse.next()
            found = self._found_calls(request)
        return Json(found)

    def _found_calls(self, request: Request) -> list[dict[str, Any]]:
        query = request.query_params
        stored = self._world.store.calls(
            after=int(_number(request, "after")),
            verb=query.get("verb", "").upper(),
            pool=query.get("pool", ""),
            status=int(_number(request, "status")),
            limit=int(_number(request, "limit") or -1),
        )
        return [call_json(call) for call in stored]

    async def _tail(self, request: Request) -> Response:
        after = int(_number(request, "after"))
        return StreamingResponse(self._lines(after), media_type="application/x-ndjson")

    async def _lines(self, after: int) -> AsyncIterator[str]:
        """Yields each call once, when it has been answered."""
        while True:
            grown = self._log.pulse.next()
            for stored in self._world.store.calls(after=after):
                call = call_json(stored)
                if "status" not in call:
                    break  # still being answered: the ones behind it wait for their turn
                after = stored.number
                yield json.dumps(call) + "\n"
            await grown.wait()

    async def _revoke(self, _: Request) -> Response:
        self._world.revoke_tokens()
        return Response(status_code=204)

    async def _reset(self, _: Request) -> Response:
        self._world.clear_faults()
        world = self._world
        for pool in list(world.pools.values()):
            if pool.name != SYSTEM_POOL:
                self._operations.delete(pool, at_once=True)
        try:
            async with asyncio.timeout(RESET_SECONDS):
                while set(world.pools) - {SYSTEM_POOL}:
                    await world.clock.sleep(0.02)
        except TimeoutError:
            left = ", ".join(sorted(set(world.pools) - {SYSTEM_POOL}))
            raise ControlRefusalError(
                503, f"reset: the node driver did not remove the VMs of {left} in time; try again"
            ) from None
        world.forget_all()
        return Response(status_code=204)

    def _pool(self, request: Request) -> Pool:
        name = request.path_params["pool"]
        pool = self._world.pools.get(name)
        if pool is None:
            known = ", ".join(sorted(self._world.pools))
            raise ControlRefusalError(404, f"pool: there is no pool {name!r}; there are {known}")
        return pool

    def _vm(self, pool: Pool, body: dict[str, object]) -> Instance:
        present = [vm for vm in pool.instances if not vm.leaving]
        node = str(body.get("node", "")) or (present[0].node if present else "")
        vm = pool.vm_of(node)
        if vm is None or vm.leaving:
            known = ", ".join(item.node for item in present) or "none"
            raise ControlRefusalError(
                404, f"node: pool {pool.name} has no VM {node!r}; it has {known}"
            )
        return vm

    def _pool_json(self, pool: Pool) -> dict[str, Any]:
        operation = self._world.running_operation(pool)
        return {
            **pool_json(self._world.cluster, pool),
            "instances": [vm.json_dict() for vm in pool.instances],
            "operation": None if operation is None else operation.json_dict(),
        }


def _guarded(answer: Answer) -> Answer:
    """Turns what is wrong with a request into an answer that says so."""

    async def guarded(request: Request) -> Response:
        try:
            return await answer(request)
        except ControlRefusalError as refusal:
            return Json({"problems": list(refusal.problems)}, refusal.status)
        except ValidationError as error:
            return Json({"problems": problems(error)}, 400)
        except (UnknownErrorNameError, ArmError) as error:
            return Json({"problems": [str(error)]}, 400)

    return guarded


def _from_this_host(request: Request) -> bool:
    """A host that calls an address of its own calls from that address."""
    client, server = request.client, request.scope.get("server")
    if client is None or server is None:
        return False
    return client.host == server[0] or ip_address(client.host).is_loopback


async def _body(request: Request) -> dict[str, object]:
    raw = await request.body()
    if not raw:
        return {}
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise ControlRefusalError(400, f"body: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ControlRefusalError(400, "body: not a JSON object")
    return value


def _number(request: Request, name: str) -> float:
    text = request.query_params.get(name, "0")
    try:
        return float(text)
    except ValueError as error:
        raise ControlRefusalError(400, f"{name}: {text!r} is not a number") from error


def _spec_json(world: World, pool: Pool, vm: Instance) -> dict[str, Any]:
    spec = node_spec(world.cluster, pool, vm)
    return {**vars(spec), "labels": dict(spec.labels), "taints": list(spec.taints)}
