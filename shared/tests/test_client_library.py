"""What we rely on in kubernetes-asyncio; a release that changes one of these fails here first."""

import asyncio
import inspect
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlkit.kube.transport import Configuration, RestClient, _config

REFUSAL = b'HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{"message":"no thing"}'


@asynccontextmanager
async def client_of(answer: bytes) -> AsyncIterator[tuple[Any, str]]:
    """The library's pooled session, and the URL of a server that gives one answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = RestClient(Configuration())
    try:
        yield client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


def test_the_release_is_one_that_these_tests_have_seen() -> None:
    assert version("kubernetes-asyncio").startswith("36.")


async def test_a_raw_call_raises_nothing_on_a_refusal_and_leaves_the_status_to_us() -> None:
    async with client_of(REFUSAL) as (client, url):
        response = await client.request("GET", url, _preload_content=False)
        assert isinstance(response, aiohttp.ClientResponse)
        assert response.status == 404
        response.close()


async def test_a_call_that_preloads_raises_and_holds_the_whole_body_in_its_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with client_of(REFUSAL) as (client, url):
        with (
            caplog.at_level(logging.DEBUG, logger="kubernetes_asyncio.client.rest"),
            pytest.raises(Exception, match="404"),
        ):
            await client.request("GET", url)
    assert "no thing" in caplog.text, "which is why that logger is pinned at INFO"


async def test_without_our_deadline_a_call_has_none() -> None:
    source = inspect.getsource(RestClient.request)
    assert "aiohttp.ClientTimeout()" in source
    assert aiohttp.ClientTimeout().total is None


async def test_the_hook_is_asked_for_the_token_before_every_call() -> None:
    configuration = Configuration()
    configuration.api_key["BearerToken"] = "Bearer 0"
    asked = []

    async def hook(held: Any) -> None:
        asked.append(held)
        held.api_key["BearerToken"] = f"Bearer {len(asked)}"

    configuration.refresh_api_key_hook = hook
    for number in (1, 2):
        settings = await configuration.auth_settings()
        assert [(each["key"], each["value"]) for each in settings.values()] == [
            ("authorization", f"Bearer {number}")
        ]


async def test_without_a_token_there_are_no_credentials() -> None:
    assert await Configuration().auth_settings() == {}


async def test_the_pool_holds_a_hundred_connections_and_reads_long_lines() -> None:
    client = RestClient(Configuration())
    try:
        assert client.pool_manager.connector.limit == 100
        assert client.pool_manager._read_bufsize == 2**21
    finally:
        await client.close()


async def test_the_pool_opens_its_sockets_with_the_factory_that_we_set() -> None:
    opened: list[Any] = []

    def opening(address: Any) -> socket.socket:
        opened.append(address)
        return socket.socket(*address[:3])

    async with client_of(REFUSAL) as (client, url):
        assert client.pool_manager.connector._socket_factory is None
        client.pool_manager.connector.__dict__.update(_socket_factory=opening)
        (await client.request("GET", url, _preload_content=False)).close()
    assert len(opened) == 1


def test_the_loaders_take_what_we_give_them() -> None:
    load = inspect.signature(_config.load_kube_config).parameters
    assert {"config_file", "client_configuration", "persist_config"} <= set(load)
    in_pod = inspect.signature(_config.load_incluster_config).parameters
    assert "client_configuration" in in_pod


def test_the_parts_we_load_without_the_models_need_none_of_them() -> None:
    spec = find_spec("kubernetes_asyncio")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    for part in ("client/configuration.py", "client/rest.py", "config/kube_config.py"):
        assert "client.models" not in (root / part).read_text()


def test_only_the_transport_knows_the_library() -> None:
    repository = Path(__file__).parents[2]
    users = [
        path.relative_to(repository).as_posix()
        for path in repository.glob("*/src/**/*.py")
        if re.search(
            r"^\s*(from|import) kubernetes_asyncio|_LIBRARY = ", path.read_text(), re.MULTILINE
        )
    ]
    assert users == ["shared/src/controlkit/kube/transport.py"]
