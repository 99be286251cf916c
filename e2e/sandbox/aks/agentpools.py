"""The answers of the agent pool API, once a call is authenticated, counted and found fault-free.

Invariant: a call is answered from one look at the state and changes it without waiting in between,
so two calls never see half of each other.
"""

import json
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from sandbox.aks.calls import Call
from sandbox.aks.capacity import Placement, place
from sandbox.aks.errors import ArmError, known_error
from sandbox.aks.operations import Operations
from sandbox.aks.planning import new_pool
from sandbox.aks.records import Operation, OperationKind, Pool
from sandbox.aks.rules import admitted
from sandbox.aks.skus import Sku
from sandbox.aks.trouble import Trouble, trouble_of
from sandbox.aks.usage import over_quota
from sandbox.aks.wire import (
    cluster_json,
    machine_json,
    operation_json,
    operation_path,
    pool_json,
)
from sandbox.aks.world import SYSTEM_POOL, World

PAGE_PARAMETER: Final = "$skiptoken"


class AgentPools:
    """Reads and changes pools for one authenticated client."""

    def __init__(self, world: World, operations: Operations) -> None:
        self._world = world
        self._operations = operations

    def put(self, call: Call) -> Response:
        """Creates or changes a pool."""
        wanted = _properties(call.body)
        existing = self._world.pools.get(call.pool)
        self._check_preconditions(call, existing)
        self._check_idle(existing)
        settings, location = self._world.settings, self._world.cluster.location
        properties, sku = admitted(call.pool, wanted, existing, settings, location)
        self._check_limits(existing, properties)
        placement = self._placed(existing, sku, properties)
        trouble = self._strike(call)
        pool = existing or new_pool(call.pool, properties, self._world.now())
        kind = _kind(existing, properties)
        pool.properties = properties
        operation = self._operations.put(pool, kind, placement, trouble)
        return self._accepted_resource(call, pool, operation, 201 if existing is None else 200)

    def get(self, call: Call) -> Response:
        """Returns one pool."""
        pool = self._pool(call)
        return JSONResponse(pool_json(self._world.cluster, pool), headers={"ETag": pool.etag})

    def list(self, call: Call) -> Response:
        """Returns a page of pools."""
        after = call.request.query_params.get(PAGE_PARAMETER, "")
        names = sorted(name for name in self._world.pools if name > after)
        page = names[: self._world.settings.page_size]
        body: dict[str, Any] = {
            "value": [pool_json(self._world.cluster, self._world.pools[name]) for name in page]
        }
        if len(page) < len(names):
            path = call.request.url.path
            body["nextLink"] = (
                f"{call.base_url}{path}?api-version={call.api_version}&{PAGE_PARAMETER}={page[-1]}"
            )
        return JSONResponse(body)

    def delete(self, call: Call) -> Response:
        """Begins to delete a pool."""
        pool = self._world.pools.get(call.pool)
        self._check_preconditions(call, pool)
        if pool is None:
            return Response(status_code=204)
        if not (self._world.settings.delete_preempts and pool.state != "Deleting"):
            self._check_idle(pool)
        others = [item for item in self._world.pools.values() if item.system and item is not pool]
        if pool.system and not others:
            raise known_error(
                "invalid-parameter",
                target="agentPoolProfile.mode",
                reason="the last system pool of a cluster can't be deleted.",
            )
        return self._accepted(call, self._operations.delete(pool, self._strike(call)))

    def abort(self, call: Call) -> Response:
        """Begins to cancel the running operation of a pool."""
        pool = self._pool(call)
        running = self._world.running_operation(pool)
        if running is None or running.kind in ("Delete", "Abort"):
            raise known_error("abort-refused", state=pool.state)
        return self._accepted(call, self._operations.abort(pool, self._strike(call)))

    def delete_machines(self, call: Call) -> Response:
        """Begins to delete single VMs of a pool."""
        pool = self._pool(call)
        self._check_preconditions(call, pool)
        self._check_idle(pool)
        names = _json_object(call.body).get("machineNames")
        known = {vm.node for vm in pool.instances}
        if not isinstance(names, list) or not names:
            raise _bad_machines("it must list the names of one or more machines.")
        if strange := [name for name in names if name not in known]:
            raise _bad_machines(f"agent pool {pool.name} has no machine {strange[0]!r}.")
        left = pool.count - len(set(names))
        if pool.system and left < 1:
            raise _bad_machines("a system pool keeps at least one machine.")
        operation = self._operations.delete_machines(pool, names, self._strike(call))
        return self._accepted(call, operation)

    def upgrade(self, call: Call) -> Response:
        """Begins a surge upgrade of the node image."""
        pool = self._pool(call)
        self._check_idle(pool)
        operation = self._operations.upgrade_node_image(pool, self._strike(call))
        return self._accepted(call, operation)

    def machines(self, call: Call) -> Response:
        """Returns the VMs of a pool, or one of them; a VM is listed before its Node joins."""
        pool = self._pool(call)
        found = [machine_json(self._world.cluster, pool, vm) for vm in pool.instances]
        wanted = call.names.get("machine")
        if wanted is None:
            return JSONResponse({"value": found})
        for machine in found:
            if machine["name"] == wanted:
                return JSONResponse(machine)
        raise known_error("machine-not-found", wanted=wanted, pool=pool.name)

    def cluster(self, _call: Call) -> Response:
        """Returns the managed cluster."""
        pools = [self._world.pools[name] for name in sorted(self._world.pools)]
        state = self._world.settings.cluster_state
        return JSONResponse(cluster_json(self._world.cluster, state, pools))

    def operation(self, call: Call) -> Response:
        """Returns the status of an operation, or at its other URL the result."""
        wanted = call.names["operation"]
        operation = self._world.operations.get(wanted)
        if operation is None or operation.lost:
            raise known_error("operation-not-found", wanted=wanted)
        later = self._poll_later() if operation.running else {}
        if call.names["kind"].lower() == "operations":
            return JSONResponse(operation_json(self._world.cluster, operation), headers=later)
        if operation.running:
            return Response(status_code=202, headers={**later, **self._result_url(call, operation)})
        if operation.error is not None:
            raise ArmError(409, operation.error)
        return Response(status_code=204)

    def _pool(self, call: Call) -> Pool:
        pool = self._world.pools.get(call.pool)
        if pool is None:
            raise known_error("pool-not-found", pool=call.pool, cluster=self._world.cluster.name)
        return pool

    def _strike(self, call: Call) -> Trouble:
        """Returns what faults do to the operation that this call is about to begin."""
        faults = self._world.strike(call.verb, call.pool, request=False)
        call.faults += [fault.id for fault in faults]
        return trouble_of(faults, self._world.facts(call.verb, call.pool, call.body))

    def _check_preconditions(self, call: Call, pool: Pool | None) -> None:
        if call.header("if-none-match") == "*" and pool is not None:
            raise known_error("precondition-exists", pool=call.pool)
        wanted = call.header("if-match")
        if wanted and pool is None:
            raise known_error("precondition-absent")
        if wanted and pool is not None and wanted.strip('"') not in ("*", pool.etag):
            raise known_error("precondition-etag", pool=call.pool)

    def _check_idle(self, pool: Pool | None) -> None:
        cluster_state = self._world.settings.cluster_state
        if cluster_state != "Succeeded":
            name = self._world.cluster.name
            raise known_error("in-progress-cluster", state=cluster_state, cluster=name)
        if pool is not None and pool.operation is not None:
            name = "in-progress-create" if pool.state == "Creating" else "in-progress"
            raise known_error(name, pool=pool.name, state=pool.state)

    def _check_limits(self, existing: Pool | None, properties: dict[str, Any]) -> None:
        pools, settings = self._world.pools, self._world.settings
        if existing is None and len(pools) >= settings.max_pools:
            raise known_error("pool-limit", limit=settings.max_pools)
        others = sum(pool.count for pool in pools.values() if pool is not existing)
        wanted = others + int(properties["count"])
        before = others + existing.count if existing else others
        if wanted > max(before, settings.max_nodes):
            raise known_error("node-limit", needed=wanted, limit=settings.max_nodes)

    def _missing(self, existing: Pool | None, properties: dict[str, Any]) -> int:
        """Returns how many VMs have to be added."""
        count = int(properties["count"])
        if existing is None:
            return count
        if existing.name == SYSTEM_POOL:
            return 0  # its VMs are the sandbox's own
        return max(0, count - len(existing.standing()))

    def _placed(self, existing: Pool | None, sku: Sku, properties: dict[str, Any]) -> Placement:
        """Returns where the VMs go that have to be added, and what fails them later.

        Raises:
            ArmError: the quota is exceeded, and shows at once.
        """
        world, settings = self._world, self._world.settings
        pools, region = world.pools.values(), world.cluster.location
        spot = properties.get("scaleSetPriority") == "Spot"
        more = self._missing(existing, properties)
        excess = over_quota(settings.quota, pools, sku, more, spot=spot, region=region)
        if excess is not None and excess.shape == "flat":
            raise excess
        if excess is not None:
            return Placement((), excess)
        zones = properties.get("availabilityZones") or ()
        return place(settings, pools, sku, zones, more, into=existing, spot=spot)

    def _accepted_resource(
        self, call: Call, pool: Pool, operation: Operation, status: int
    ) -> Response:
        headers = {**self._poll_later(), **self._status_url(call, operation), "ETag": pool.etag}
        return JSONResponse(pool_json(self._world.cluster, pool), status, headers=headers)

    def _accepted(self, call: Call, operation: Operation) -> Response:
        headers = {**self._poll_later(), **self._status_url(call, operation)}
        return Response(status_code=202, headers={**headers, **self._result_url(call, operation)})

    def _status_url(self, call: Call, operation: Operation) -> dict[str, str]:
        path = operation_path(self._world.cluster, operation.id, "operations")
        url = f"{call.base_url}{path}?api-version={call.api_version}"
        return {"Azure-AsyncOperation": url}

    def _result_url(self, call: Call, operation: Operation) -> dict[str, str]:
        path = operation_path(self._world.cluster, operation.id, "operationresults")
        return {"Location": f"{call.base_url}{path}?api-version={call.api_version}"}

    def _poll_later(self) -> dict[str, str]:
        settings = self._world.settings
        seconds = settings.scaled(settings.poll_after)
        if seconds >= 1:
            return {"Retry-After": str(round(seconds))}
        # Retry-After counts whole seconds; the Azure SDK reads this one as well.
        return {"x-ms-retry-after-ms": str(max(1, round(seconds * 1000)))}


def _kind(existing: Pool | None, properties: dict[str, Any]) -> OperationKind:
    if existing is None:
        return "Create"
    before, after = dict(existing.properties), dict(properties)
    changed = before.pop("count") != after.pop("count")
    return "Scale" if changed and before == after else "Update"


def _properties(body: bytes) -> dict[str, Any]:
    properties = _json_object(body).get("properties")
    if not isinstance(properties, dict):
        raise known_error("body-invalid", reason="It has no object `properties`.")
    return properties


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise known_error("body-invalid", reason=f"It is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise known_error("body-invalid", reason="It is not a JSON object.")
    return value


def _bad_machines(reason: str) -> ArmError:
    return known_error("invalid-parameter", target="machineNames", reason=reason)
