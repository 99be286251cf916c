"""Config, credentials, TLS and connections: the one file that imports the client library.

Invariant: every request carries fresh credentials and a deadline, and ends as bytes or as a
`ControlError`; nothing above this file knows which library carries it.
"""

import asyncio
import importlib.util
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from weakref import WeakSet

import aiohttp
import structlog
import yaml

from controlkit.errors import Rejected, Transient
from controlkit.kube.errors import Status, mapped, refusal
from controlkit.kube.wire import Lines
from controlkit.metrics import observe_request

log = structlog.get_logger(__name__)

_LIBRARY = "kubernetes_asyncio"
_REFRESH_SECONDS = 60.0
_REFUSAL_BYTES = 1 << 20
HANG_UP_SECONDS, HANG_UP_TURNS = 1.0, 100
_WARNING = re.compile(r'^\d{3} \S+ "(.*)"$')  # RFC 7234, 5.5: code, agent, text


@contextmanager
def _without_models() -> Iterator[ModuleType]:
    """Lets the library's transport be imported without its 700 generated models.

    Its packages import all of them: 63 MB and over a second. We decode with our own views and use
    none. Inside, the packages are empty shells whose submodules load as usual; afterwards they are
    forgotten, so that an ordinary import of the library finds the real thing.
    """
    spec = importlib.util.find_spec(_LIBRARY)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{_LIBRARY} is not installed")
    root = Path(spec.submodule_search_locations[0])
    before = {name: module for name, module in sys.modules.items() if name.startswith(_LIBRARY)}
    for name in before:
        del sys.modules[name]
    package, client = ModuleType(_LIBRARY), ModuleType(f"{_LIBRARY}.client")
    package.__path__, client.__path__ = [str(root)], [str(root / "client")]
    package.__dict__["client"] = client
    sys.modules.update({_LIBRARY: package, client.__name__: client})
    try:
        yield client
    finally:
        for name in [name for name in sys.modules if name.startswith(_LIBRARY)]:
            del sys.modules[name]
        sys.modules.update(before)


with _without_models() as _client:
    # Loaded by name: mypy would otherwise read the 700 models, and finds no types in them.
    Configuration: Any = import_module(f"{_LIBRARY}.client.configuration").Configuration
    RestClient: Any = import_module(f"{_LIBRARY}.client.rest").RESTClientObject
    _client.__dict__.update(ApiClient=None, Configuration=Configuration)
    _config: Any = import_module(f"{_LIBRARY}.config")


class Transport:
    """A pool of connections to one API server, with credentials that stay fresh."""

    def __init__(self, configuration: Any, user_agent: str) -> None:
        self._configuration = configuration
        self._rest = RestClient(configuration)
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._rest.pool_manager.connector.__dict__.update(_socket_factory=self._open)
        self._user_agent = user_agent
        self._warned: set[str] = set()

    @classmethod
    async def connect(cls, *, user_agent: str, kubeconfig: Path | None = None) -> Self:
        """Reads the configuration; opens no connection yet.

        Looks at `kubeconfig`, then KUBECONFIG, then a pod's service account, then ~/.kube/config.

        Raises:
            Rejected: there is no configuration, or it cannot be read.
        """
        configuration = Configuration()
        paths = _kubeconfig_paths(kubeconfig)
        try:
            if paths:
                await _load_kubeconfig(configuration, paths)
            else:
                _config.load_incluster_config(client_configuration=configuration)
            return cls(configuration, user_agent)
        except (_config.ConfigException, OSError, yaml.YAMLError, AssertionError) as error:
            source = ":".join(map(str, paths)) or "this pod's service account"
            detail = str(error) or "the current context names nothing"
            raise Rejected("NoCluster", f"cannot use {source}: {detail}") from error

    async def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> bytes:
        """One call, its whole answer.

        Args:
            verb: HTTP method.
            path: URL path, beginning with a slash.
            query: query parameters; empty values are left out.
            body: JSON value to send.
            content_type: of the body.
            timeout: seconds for everything: credentials, a free connection, the last byte.

        Raises:
            ControlError: refused, unreachable or late.
        """
        call = f"{verb} {path}"
        with mapped(call, timeout):
            async with asyncio.timeout(timeout):
                response = await self._send(verb, path, query, body, content_type)
                async with response:
                    answer: bytes = await response.read()
        self._judge(call, response, answer)
        return answer

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Lines]:
        """A GET whose answer is read line by line, as it comes.

        Args:
            path: URL path, beginning with a slash.
            query: query parameters; empty values are left out.
            timeout: seconds until the answer begins.

        Raises:
            ControlError: refused, unreachable, late, or broken off while being read.
        """
        call = f"WATCH {path}"
        with mapped(call, timeout):
            async with asyncio.timeout(timeout):
                response = await self._send("GET", path, query, None, "application/json")
            async with response:
                if response.status >= 400:
                    async with asyncio.timeout(timeout):
                        said = await _at_most(response.content, _REFUSAL_BYTES)
                    self._judge(call, response, said)
                yield Lines(call, response.content)

    async def close(self) -> None:
        """Closes every connection; calls under way fail as Transient."""
        await self._rest.close()
        # What was being connected when its call was cancelled is in no pool: asyncio gives it up
        # some turns later or, once its handshake is through, when the peer has said goodbye.
        for _ in range(HANG_UP_TURNS):
            left = [each for each in self._sockets if each.fileno() != -1]
            if not left:
                break
            for each in left:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(HANG_UP_SECONDS / HANG_UP_TURNS)

    def _open(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        opened = socket.socket(family, kind, protocol)
        self._sockets.add(opened)
        return opened

    async def _send(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
    ) -> aiohttp.ClientResponse:
        # The API server would compress whatever is large, and pay more time than the wire does.
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": content_type,
            "User-Agent": self._user_agent,
            **await self._credentials(),
        }
        began = time.perf_counter()
        code = "<error>"
        try:
            response: aiohttp.ClientResponse = await self._rest.request(
                verb,
                self._configuration.host + path,
                query_params=[(k, v) for k, v in (query or {}).items() if v],
                headers=headers,
                body=body,
                _preload_content=False,
            )
            code = str(response.status)
        finally:
            host = self._configuration.host.split("//")[-1]
            observe_request(verb, code, host, time.perf_counter() - began)
        return response

    async def _credentials(self) -> dict[str, str]:
        try:
            settings = await self._configuration.auth_settings()
        except (_config.ConfigException, OSError, yaml.YAMLError) as error:
            raise Transient("NoCredentials", f"cannot read the credentials: {error}") from error
        return {each["key"]: each["value"] for each in settings.values()}

    def _judge(self, call: str, response: aiohttp.ClientResponse, answer: bytes) -> None:
        for warning in response.headers.getall("Warning", ()):
            if warning not in self._warned and len(self._warned) < 1000:
                self._warned.add(warning)
                text = _WARNING.sub(r"\1", warning).replace('\\"', '"')
                log.warning("API server warns", call=call, warning=text)
        if response.status >= 400:
            status = Status.parse(answer, response.status)
            raise refusal(call, status, response.headers.get("Retry-After"))


async def _at_most(content: aiohttp.StreamReader, most: int) -> bytes:
    """The beginning of an answer, for a refusal may come from anybody behind a proxy."""
    found = b""
    while len(found) < most and (part := await content.readany()):
        found += part
    return found


def _kubeconfig_paths(explicit: Path | None) -> list[Path]:
    if explicit is not None:
        return [explicit]
    if listed := os.environ.get("KUBECONFIG"):
        return [Path(path).expanduser() for path in listed.split(os.pathsep) if path]
    home = Path.home() / ".kube" / "config"
    return [home] if "KUBERNETES_SERVICE_HOST" not in os.environ and home.exists() else []


async def _load_kubeconfig(configuration: Any, paths: list[Path]) -> None:
    if not any(path.exists() for path in paths):
        raise FileNotFoundError("no such file; set KUBECONFIG to a file that exists")
    user = _current_user(paths)
    loader = await _config.load_kube_config(
        config_file=os.pathsep.join(map(str, paths)),
        client_configuration=configuration,
        persist_config=False,
    )
    if "tokenFile" in user or "token" in user:
        configuration.refresh_api_key_hook = _fresh(partial(_read_token, paths))
    elif "exec" in user:
        configuration.refresh_api_key_hook = _fresh(partial(_run_plugin, loader))


def _current_user(paths: list[Path]) -> dict[str, Any]:
    """The user of the current context, with its token file as a path.

    The library reads tokens once, keeps the line end of a file, and never looks again.
    """
    context = ""
    users: dict[str, dict[str, Any]] = {}
    contexts: dict[str, dict[str, Any]] = {}
    for path in paths:
        if not path.exists():
            continue
        content = yaml.safe_load(path.read_text())
        if not isinstance(content, dict):
            raise _config.ConfigException(f"{path} holds no mapping")
        context = context or content.get("current-context", "")
        for entry in content.get("contexts") or []:
            contexts.setdefault(entry["name"], entry["context"])
        for entry in content.get("users") or []:
            user = dict(entry["user"] or {})
            if "tokenFile" in user:
                user["tokenFile"] = path.parent / user["tokenFile"]
            users.setdefault(entry["name"], user)
    return users.get(contexts.get(context, {}).get("user", ""), {})


async def _read_token(paths: list[Path]) -> str:
    """The current user's token as the files hold it now: whoever renews it replaces them."""
    user = _current_user(paths)
    source = user.get("tokenFile")
    token = source.read_text() if source else str(user.get("token", ""))
    if not token.strip():
        raise OSError(f"there is no token in {source or ':'.join(map(str, paths))}")
    return f"Bearer {token.strip()}"


async def _run_plugin(loader: Any) -> str:
    await loader.load_from_exec_plugin()
    return str(loader.token)


def _fresh(obtain: Callable[[], Awaitable[str]]) -> Callable[[Any], Awaitable[None]]:
    """A hook for the library that obtains the token anew every minute, once at a time."""
    lock = asyncio.Lock()
    due = 0.0

    async def refresh(configuration: Any) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        async with lock:
            if time.monotonic() >= due:
                configuration.api_key["BearerToken"] = await obtain()
                due = time.monotonic() + _REFRESH_SECONDS

    return refresh
