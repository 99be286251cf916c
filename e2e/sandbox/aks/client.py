"""A client of the control API, for tests and scripts.

Invariant: a refused request raises with what the emulator said is wrong; nothing is retried.
"""

import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sandbox.aks.control import ROOT


class ControlApiError(RuntimeError):
    """The control API refused a request; the text is its explanation."""


class ControlClient:
    """Talks to one emulator; use it as an async context manager."""

    def __init__(self, url: str, ca: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        self._http = httpx.AsyncClient(base_url=url, verify=context, timeout=90.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def inject(self, effect: str, **fields: object) -> dict[str, Any]:
        """Adds a fault, its fields as `Fault` has them; returns it with its id."""
        body = {_camel(name): value for name, value in fields.items()}
        return await self._object("POST", "/faults", {"effect": effect, **body})

    async def faults(self) -> list[dict[str, Any]]:
        """Returns all faults."""
        return await self._array("GET", "/faults")

    async def clear_faults(self) -> None:
        """Clears all faults."""
        await self._call("DELETE", "/faults")

    async def set(self, **settings: object) -> dict[str, Any]:
        """Changes settings, their names as `Settings` has them or in camelCase; returns all."""
        patch = {_camel(name): value for name, value in settings.items()}
        return await self._object("PATCH", "/settings", patch)

    async def set_quota(self, **quota: object) -> dict[str, Any]:
        """Replaces the quota: families, regional, spot, checked."""
        return await self._object("PUT", "/quota", quota)

    async def pools(self) -> dict[str, dict[str, Any]]:
        """Returns all pools but the cluster's own, by name."""
        found = await self._array("GET", "/pools")
        return {pool["name"]: pool for pool in found if pool["properties"]["mode"] != "System"}

    async def operations(self) -> list[dict[str, Any]]:
        """Returns all operations, in the order of their beginning."""
        return await self._array("GET", "/operations")

    async def nodes(self) -> list[dict[str, Any]]:
        """Returns all VMs."""
        return await self._array("GET", "/nodes")

    async def usage(self) -> dict[str, Any]:
        """Returns vCPUs in use and tokens left."""
        return await self._object("GET", "/usage")

    async def calls(
        self, verb: str = "", *, pool: str = "", status: int = 0, after: int = 0, wait: float = 0
    ) -> list[dict[str, Any]]:
        """Returns the calls that fit, in order; waits up to `wait` seconds for the first one."""
        query = f"verb={verb}&pool={pool}&status={status}&after={after}&wait={wait}"
        return await self._array("GET", f"/calls?{query}")

    async def created_pools(self) -> list[str]:
        """Returns the names of the pools that PUTs created, one entry per creation."""
        return [call["pool"] for call in await self.calls("PUT", status=201)]

    async def evict(self, pool: str, *, node: str = "", notice: bool = False) -> None:
        """Evicts a VM, by default the first one."""
        await self._call("POST", f"/pools/{pool}/evict", {"node": node, "notice": notice})

    async def set_ready(self, pool: str, *, node: str = "", ready: bool) -> None:
        """Makes a Node NotReady, or Ready again."""
        await self._call("POST", f"/pools/{pool}/ready", {"node": node, "ready": ready})

    async def remove_pool(self, pool: str) -> None:
        """Deletes a pool behind all backs."""
        await self._call("DELETE", f"/pools/{pool}")

    async def revoke_tokens(self) -> None:
        """Makes all access tokens invalid."""
        await self._call("POST", "/revoke-tokens")

    async def reset(self) -> None:
        """Removes all pools, faults, changed settings and logged calls."""
        await self._call("POST", "/reset")

    async def _object(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = await self._call(method, path, body)
        assert isinstance(answer, dict)
        return answer

    async def _array(self, method: str, path: str) -> list[dict[str, Any]]:
        answer = await self._call(method, path)
        assert isinstance(answer, list)
        return answer

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = await self._http.request(method, ROOT + path, json=body)
        if answer.is_error:
            raise ControlApiError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
