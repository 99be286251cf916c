"""Typed calls to the API server.

Invariant: a call returns what it says or raises a `ControlError`, within its deadline; lists are
decoded straight from bytes into views, and a whole object is never written back.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pydantic import ValidationError

from controlkit.errors import NotFound, Stale, Transient
from controlkit.kube import decode
from controlkit.kube.decode import WatchEvent
from controlkit.kube.errors import Expired
from controlkit.kube.objects import Key, KubeObject, ObjectMeta, Resource
from controlkit.kube.pacing import PacedWire
from controlkit.kube.transport import Transport
from controlkit.kube.wire import Wire

T = TypeVar("T", bound=KubeObject)

PAGE = 500
DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """All objects of a collection at one moment.

    Attributes:
        items: the objects; those our view could not read are left out, and logged.
        resource_version: where a watch goes on from.
    """

    items: list[T]
    resource_version: str


class KubeClient:
    """The verbs, on one API server. Every call takes a `timeout` in seconds."""

    def __init__(self, wire: Wire, field_manager: str) -> None:
        self._wire = wire
        self._field_manager = field_manager

    @classmethod
    async def connect(
        cls, *, user_agent: str, field_manager: str, kubeconfig: Path | None = None
    ) -> Self:
        """A client for the configured cluster; opens no connection yet.

        Args:
            user_agent: how the API server's logs name us.
            field_manager: who owns the fields we write.
            kubeconfig: else KUBECONFIG, a pod's service account, or ~/.kube/config.

        Raises:
            Rejected: there is no configuration, or it cannot be read.
        """
        transport = await Transport.connect(user_agent=user_agent, kubeconfig=kubeconfig)
        return cls(transport, field_manager)

    def paced(self, *, qps: float, burst: int) -> "KubeClient":
        """A client on the same connections whose calls keep to a rate; the original closes them.

        Args:
            qps: calls a second over any length of time; 0 for no limit.
            burst: calls that may be made at once before that counts.
        """
        if not qps:
            return self
        return KubeClient(PacedWire(self._wire, qps=qps, burst=burst), self._field_manager)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes every connection."""
        await self._wire.close()

    async def get(self, view: type[T], key: Key, *, timeout: float = DEADLINE) -> T | None:
        """The object as the API server has it now; None when there is none.

        Raises:
            Rejected: the object does not fit the view.
            ControlError: refused, unreachable or late.
        """
        path = view.RESOURCE.path(key.namespace, key.name)
        try:
            answer = await self._wire.request("GET", path, timeout=timeout)
            return view.model_validate_json(answer)
        except NotFound:
            return None
        except ValidationError as error:
            raise decode.unreadable(f"GET {path}", error) from error

    async def list(
        self,
        view: type[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        not_older_than: str = "",
        timeout: float = DEADLINE,
    ) -> Listing[T]:
        """The whole collection, as of one moment, fetched in pages.

        Args:
            view: what to read of each object.
            namespace: None for all namespaces.
            label_selector: in the API's syntax.
            field_selector: in the API's syntax.
            not_older_than: a resourceVersion that suffices; lets the API server answer from its
                cache. Empty asks for the newest.
            timeout: seconds for each page.

        Raises:
            ControlError: refused, unreachable or late.
        """
        path = view.RESOURCE.path(namespace)
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        start = {"resourceVersion": not_older_than}
        if not_older_than:
            start["resourceVersionMatch"] = "NotOlderThan"
        items: list[T] = []
        page = await self._page(view, path, query | start | {"limit": str(PAGE)}, timeout)
        while page.following:
            items += page.items
            follow = {"limit": str(PAGE), "continue": page.following}
            try:
                page = await self._page(view, path, query | follow, timeout)
            except Expired:  # history was compacted under us: take all at once
                items = []
                page = await self._page(view, path, query, timeout)
        return Listing(items + page.items, page.resource_version)

    async def _page(
        self, view: type[T], path: str, query: Mapping[str, str], timeout: float
    ) -> decode.Page[T]:
        answer = await self._wire.request("GET", path, query=query, timeout=timeout)
        return decode.page(view, f"GET {path}", answer)

    async def watch(
        self,
        view: type[T],
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        lasts: float = 480.0,
        idle: float = 200.0,
        timeout: float = DEADLINE,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """What happened after a resourceVersion, as it happens, until the server ends the watch.

        Close it with `contextlib.aclosing` when leaving early.

        Args:
            view: what to read of each object.
            resource_version: from a list or an earlier event.
            namespace: None for all namespaces.
            label_selector: in the API's syntax.
            field_selector: in the API's syntax.
            lasts: seconds after which the server shall end the watch.
            idle: seconds of silence after which the connection counts as dead; the server sends a
                bookmark about every minute, the first after two.
            timeout: seconds until the answer begins.

        Raises:
            Expired: the server has forgotten that resourceVersion: list again.
            ControlError: refused, unreachable, silent or cut.
        """
        path = view.RESOURCE.path(namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(lasts))),
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
        }
        async with self._wire.stream(path, query=query, timeout=timeout) as lines:
            count = 0
            while line := await lines.next(idle):
                yield decode.event(view, f"WATCH {path}", line)
                count += 1
                if count % 32 == 0:  # a burst is already in memory: let others run in between
                    await asyncio.sleep(0)

    async def create(
        self, resource: Resource, manifest: Mapping[str, Any], *, timeout: float = DEADLINE
    ) -> ObjectMeta:
        """Creates an object.

        Args:
            resource: its kind.
            manifest: the object; apiVersion and kind may be left out.
            timeout: seconds.

        Raises:
            AlreadyExists: there is one of that name.
            ControlError: refused, unreachable or late.
        """
        namespace = manifest["metadata"].get("namespace")
        return await self._write(
            "POST", resource.path(namespace), _headed(resource, manifest), timeout=timeout
        )

    async def apply(
        self,
        resource: Resource,
        manifest: Mapping[str, Any],
        *,
        force: bool = False,
        dry_run: bool = False,
        subresource: str = "",
        timeout: float = DEADLINE,
    ) -> ObjectMeta:
        """Server-side apply: the fields in the manifest become ours, others stay as they are.

        Args:
            resource: its kind.
            manifest: every field we want to own; apiVersion and kind may be left out.
            force: take fields from other managers instead of failing.
            dry_run: let validation and admission judge it all, and store nothing.
            subresource: such as "status".
            timeout: seconds.

        Raises:
            FieldConflict: another manager owns one of the fields.
            ControlError: refused, unreachable or late.
        """
        metadata = manifest["metadata"]
        return await self._write(
            "PATCH",
            resource.path(metadata.get("namespace"), metadata["name"], subresource),
            _headed(resource, manifest),
            content_type="application/apply-patch+yaml",
            query={"force": str(force).lower()} | ({"dryRun": "All"} if dry_run else {}),
            timeout=timeout,
        )

    async def merge_patch(
        self,
        resource: Resource,
        key: Key,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
        timeout: float = DEADLINE,
    ) -> ObjectMeta:
        """Merges a patch into an object (RFC 7386: None removes, lists are replaced).

        Put `metadata.resourceVersion` into the patch to have it refused when the object changed.

        Raises:
            Stale: the object is gone, or not at that resourceVersion.
            ControlError: refused, unreachable or late.
        """
        path = resource.path(key.namespace, key.name, subresource)
        return await self._write(
            "PATCH", path, patch, content_type="application/merge-patch+json", timeout=timeout
        )

    async def delete(
        self,
        resource: Resource,
        key: Key,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace_seconds: int | None = None,
        timeout: float = DEADLINE,
    ) -> bool:
        """Asks for an object's deletion; False when it (or the one with that uid) is gone already.

        Args:
            resource: its kind.
            key: its name.
            uid: delete only the object with this uid, not a later one of the same name.
            propagation: "Background", "Foreground" or "Orphan".
            grace_seconds: overrides the object's own grace period.
            timeout: seconds.

        Raises:
            ControlError: refused, unreachable or late.
        """
        path = resource.path(key.namespace, key.name)
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._wire.request("DELETE", path, body=options, timeout=timeout)
        except NotFound:
            return False
        except Stale:
            if uid is None or await self._uid(path, timeout) == uid:
                raise
            return False
        return True

    async def _uid(self, path: str, timeout: float) -> str:
        try:
            answer = await self._wire.request("GET", path, timeout=timeout)
        except NotFound:
            return ""
        return decode.Bare.model_validate_json(answer).metadata.uid

    async def post(
        self, path: str, body: Mapping[str, Any], *, timeout: float = DEADLINE
    ) -> dict[str, Any]:
        """Posts to a path that is no collection: an eviction, a token request, a review."""
        answer = await self._wire.request("POST", path, body=body, timeout=timeout)
        return decode.mapping(answer)

    async def read(self, path: str, *, timeout: float = DEADLINE) -> dict[str, Any]:
        """Whatever JSON object is served at a path, such as discovery."""
        return decode.mapping(await self._wire.request("GET", path, timeout=timeout))

    async def ask(self, path: str, *, most: int, timeout: float) -> dict[str, Any]:
        """A JSON object from one who is not the API server, such as a pod behind its proxy.

        Args:
            path: where it is asked.
            most: bytes that the answer may have.
            timeout: seconds until the answer begins, and again until it ends.

        Raises:
            ControlError: refused, unreachable, late, too long, or no JSON object.
        """
        async with self._wire.stream(path, query={}, timeout=timeout) as lines:
            answer = await lines.whole(most, timeout)
        try:
            found: Any = decode.mapping(answer)
        except ValueError as error:
            raise Transient("Garbled", f"GET {path} answered no JSON") from error
        if not isinstance(found, dict):
            raise Transient("Garbled", f"GET {path} answered no JSON object")
        return found

    async def serves(self, resource: Resource, *, timeout: float = DEADLINE) -> bool:
        """Whether the API server serves this kind in this version."""
        try:
            listed = await self.read(resource.root, timeout=timeout)
        except NotFound:
            return False
        return any(each["name"] == resource.plural for each in listed["resources"])

    async def _write(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any],
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        timeout: float,
    ) -> ObjectMeta:
        answer = await self._wire.request(
            verb,
            path,
            query={"fieldManager": self._field_manager} | dict(query or {}),
            body=body,
            content_type=content_type,
            timeout=timeout,
        )
        return decode.Bare.model_validate_json(answer).metadata


def _headed(resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": resource.api_version, "kind": resource.kind} | dict(manifest)
