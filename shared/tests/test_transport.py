"""Where the transport finds its cluster and credentials, and what it does on a bad wire."""

import asyncio
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.client_proto import ResponseHandler
from structlog.testing import capture_logs

from controlkit.errors import NotFound, Rejected, Transient
from controlkit.kube import transport as module
from controlkit.kube.transport import Transport
from controlkit.pki import Names, issue

Answer = Callable[["Request"], bytes | None]


class Request:
    """One request as it came over the wire."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *rest = head.decode().split("\r\n")
        self.verb, self.target, _ = first.split(" ")
        pairs = (line.split(": ", 1) for line in rest if line)
        self.headers = {name.lower(): value for name, value in pairs}
        self.body = body


class RawServer:
    """Answers each request with raw bytes, or hangs up; it knows no HTTP library."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Request] = []
        self.hang = asyncio.Event()
        self.url = ""
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request = Request(head, b"")
                length = int(request.headers.get("content-length", "0"))
                request.body = await reader.readexactly(length)
                self.requests.append(request)
                answer = self._answer(request)
                if answer is None:
                    await self.hang.wait()
                    return
                writer.write(answer)
                await writer.drain()
                if b"onnection: close" in answer or b"chunked" in answer:
                    return
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(answer: Answer) -> AsyncIterator[RawServer]:
    server = RawServer(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        server.hang.set()
        listening.close()
        await listening.wait_closed()


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*chunks: bytes, ends: bool) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = [f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks]
    return head + b"".join(parts) + (b"0\r\n\r\n" if ends else b"")


def kubeconfig(folder: Path, url: str, name: str = "kubeconfig", **user: Any) -> Path:
    path = folder / name
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@asynccontextmanager
async def connected(path: Path | None = None) -> AsyncIterator[Transport]:
    transport = await Transport.connect(user_agent="kit/1", kubeconfig=path)
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def wired(folder: Path, answer: Answer) -> AsyncIterator[tuple[RawServer, Transport]]:
    """A raw server and a transport that calls it."""
    async with raw_server(answer) as server, connected(kubeconfig(folder, server.url)) as transport:
        yield server, transport


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of the machine that runs the tests."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class TestFindingTheCluster:
    async def test_the_given_file_comes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
        async with wired(tmp_path, lambda _: ok(b"{}")) as (_, transport):
            assert await transport.request("GET", "/version") == b"{}"

    async def test_then_the_variable_with_several_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with raw_server(lambda _: ok(b"{}")) as server:
            path = kubeconfig(tmp_path, server.url)
            monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{path}")
            async with connected() as transport:
                assert await transport.request("GET", "/version") == b"{}"

    async def test_then_the_file_at_home(self, tmp_path: Path) -> None:
        home = tmp_path / "home" / ".kube"
        home.mkdir(parents=True)
        async with raw_server(lambda _: ok(b"{}")) as server:
            kubeconfig(home, server.url, name="config")
            async with connected() as transport:
                assert await transport.request("GET", "/version") == b"{}"

    async def test_in_a_pod_the_service_account(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "token").write_text("from-the-pod")
        pair = issue(Names(("kubernetes",)), datetime.now(UTC))
        (tmp_path / "ca.crt").write_bytes(pair.authorities)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "::1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
        real = module._config.load_incluster_config

        def mounted(**settings: Any) -> None:
            real(
                token_filename=str(tmp_path / "token"),
                cert_filename=str(tmp_path / "ca.crt"),
                **settings,
            )

        monkeypatch.setattr(module._config, "load_incluster_config", mounted)
        async with connected() as transport:
            assert await transport._credentials() == {"authorization": "Bearer from-the-pod"}
            with pytest.raises(Transient, match=r"GET /version failed: .*::1"):
                await transport.request("GET", "/version")

    async def test_without_any_it_says_where_it_looked(self) -> None:
        with pytest.raises(Rejected, match="cannot use this pod's service account: Service host"):
            await Transport.connect(user_agent="kit/1")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            pytest.param(None, "no such file; set KUBECONFIG", id="missing"),
            pytest.param("{", "kubeconfig: while parsing", id="no-yaml"),
            pytest.param("clusters: []", "Expected key current-context", id="no-context"),
            pytest.param("[]", "kubeconfig holds no mapping", id="no-mapping"),
            pytest.param("", "kubeconfig holds no mapping", id="empty"),
        ],
    )
    async def test_a_file_that_is_of_no_use_is_named_with_what_is_wrong(
        self, tmp_path: Path, content: str | None, says: str
    ) -> None:
        path = tmp_path / "kubeconfig"
        if content is not None:
            path.write_text(content)
        with pytest.raises(Rejected, match=says) as caught:
            await Transport.connect(user_agent="kit/1", kubeconfig=path)
        assert str(path) in caught.value.message


class TestCredentials:
    async def test_a_token_file_is_read_again_when_it_changes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_REFRESH_SECONDS", 0.0)
        token = tmp_path / "token"
        token.write_text("first\n")
        async with raw_server(lambda _: ok(b"{}")) as server:
            path = kubeconfig(tmp_path, server.url, tokenFile="token")
            async with connected(path) as transport:
                await transport.request("GET", "/version")
                token.write_text("second\n")
                await transport.request("GET", "/version")
        sent = [request.headers["authorization"] for request in server.requests]
        assert sent == ["Bearer first", "Bearer second"]

    async def test_a_kubeconfig_that_was_renewed_in_place_is_read_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_REFRESH_SECONDS", 0.0)
        async with raw_server(lambda _: ok(b"{}")) as server:
            path = kubeconfig(tmp_path, server.url, token="first")
            async with connected(path) as transport:
                await transport.request("GET", "/version")
                kubeconfig(tmp_path, server.url, token="second")
                await transport.request("GET", "/version")
        sent = [request.headers["authorization"] for request in server.requests]
        assert sent == ["Bearer first", "Bearer second"]

    async def test_a_plugin_is_asked_once_a_minute_however_many_calls(self, tmp_path: Path) -> None:
        log = tmp_path / "asked"
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "from-the-plugin"},
        }
        script = f"echo asked >> {log}; echo '{json.dumps(credential)}'"
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh",
            "args": ["-c", script],
        }
        async with raw_server(lambda _: ok(b"{}", "Connection: close")) as server:
            path = kubeconfig(tmp_path, server.url, exec=plugin)
            async with connected(path) as transport, asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(transport.request("GET", "/version"))
        assert {each.headers["authorization"] for each in server.requests} == {
            "Bearer from-the-plugin"
        }
        assert len(log.read_text().split()) == 2, "once to connect, once for the first call"

    async def test_a_token_file_that_vanished_is_transient(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_REFRESH_SECONDS", 0.0)
        (tmp_path / "token").write_text("first")
        path = kubeconfig(tmp_path, "http://127.0.0.1:1", tokenFile="token")
        async with connected(path) as transport:
            for content in (None, "  \n"):
                if content is None:
                    (tmp_path / "token").unlink()
                else:
                    (tmp_path / "token").write_text(content)
                with pytest.raises(Transient, match=r"NoCredentials: cannot read.*token"):
                    await transport.request("GET", "/version")


class TestTheWire:
    """What a call meets, byte by byte."""

    async def test_a_call_says_who_calls_and_what_it_sends(self, tmp_path: Path) -> None:
        async with wired(tmp_path, lambda _: ok(b"{}")) as (server, transport):
            await transport.request(
                "PATCH",
                "/x",
                query={"fieldManager": "a b", "empty": ""},
                body={"é": 1},
                content_type="application/apply-patch+yaml",
            )
        [request] = server.requests
        assert (request.verb, request.target) == ("PATCH", "/x?fieldManager=a+b")
        assert json.loads(request.body) == {"é": 1}
        assert request.headers["content-type"] == "application/apply-patch+yaml"
        assert request.headers["user-agent"] == "kit/1"
        assert request.headers["accept-encoding"] == "identity"

    async def test_calls_share_a_connection(self, tmp_path: Path) -> None:
        answers = iter([ok(b"{}")] * 3)
        async with wired(tmp_path, lambda _: next(answers)) as (server, transport):
            for _ in range(3):
                await transport.request("GET", "/x")
        assert len(server.requests) == 3

    async def test_a_refusal_by_a_proxy_is_quoted(self, tmp_path: Path) -> None:
        answer = b"HTTP/1.1 502 Bad\r\nContent-Length: 5\r\nRetry-After: 9\r\n\r\nsorry"
        async with wired(tmp_path, lambda _: answer) as (_server, transport):
            with pytest.raises(Transient, match="GET /x answered 502: sorry") as caught:
                await transport.request("GET", "/x")
        assert caught.value.retry_after == 9

    async def test_an_answer_that_breaks_off_is_transient(self, tmp_path: Path) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"
        async with wired(tmp_path, lambda _: answer) as (_server, transport):
            with pytest.raises(Transient, match="Unreachable"):
                await transport.request("GET", "/x")

    async def test_no_answer_ends_at_the_deadline(self, tmp_path: Path) -> None:
        async with wired(tmp_path, lambda _: None) as (_server, transport):
            began = time.monotonic()
            with pytest.raises(Transient, match=r"no answer within 0\.2 s"):
                await transport.request("GET", "/x", timeout=0.2)
            with pytest.raises(Transient, match=r"no answer within 0\.2 s"):
                async with transport.stream("/x", query={}, timeout=0.2):
                    pass
            assert time.monotonic() - began < 2

    async def test_lines_come_whole_across_chunks(self, tmp_path: Path) -> None:
        answer = chunked(b'{"a"', b":1}\n{", b"}\n", ends=True)
        assert await self.lines(tmp_path, answer) == [b'{"a":1}\n', b"{}\n"]

    async def test_half_a_line_before_the_end_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(Transient, match="broke off inside a line"):
            await self.lines(tmp_path, chunked(b"{}\n{", ends=True))

    async def test_an_end_without_the_last_chunk_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(Transient, match="Unreachable"):
            await self.lines(tmp_path, chunked(b"{}\n", ends=False))

    async def test_a_line_beyond_all_bounds_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(Transient, match="over 4 MiB"):
            await self.lines(tmp_path, chunked(b"x" * 5_000_000, ends=True))

    async def test_a_line_of_three_megabytes_is_read(self, tmp_path: Path) -> None:
        [line] = await self.lines(tmp_path, chunked(b"x" * 3_000_000 + b"\n", ends=True))
        assert len(line) == 3_000_001

    async def test_silence_between_lines_ends_the_stream(self, tmp_path: Path) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \r\n\r\n3\r\n{}\n\r\n"

        def answer(request: Request) -> bytes | None:
            return head.replace(b"chunked ", b"Chunked")

        async with (
            wired(tmp_path, answer) as (_server, transport),
            transport.stream("/x", query={}, timeout=5) as lines,
        ):
            assert await lines.next(5) == b"{}\n"
            with pytest.raises(Transient, match=r"Silent: WATCH /x sent nothing for 0\.2 s"):
                await lines.next(0.2)

    async def test_a_refused_stream_is_the_error_it_says(self, tmp_path: Path) -> None:
        body = b'{"kind":"Status","reason":"NotFound","message":"no such kind"}'
        head = f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(body)}\r\n\r\n"
        async with wired(tmp_path, lambda _: head.encode() + body) as (_server, transport):
            with pytest.raises(NotFound, match="WATCH /x answered 404: no such kind"):
                async with transport.stream("/x", query={}, timeout=5):
                    pass

    async def test_the_answer_of_a_stranger_is_read_up_to_a_limit(self, tmp_path: Path) -> None:
        assert await self.whole(tmp_path, ok(b'{"a":\n1}')) == b'{"a":\n1}'
        assert await self.whole(tmp_path, chunked(b"x" * 60, b"y" * 40, ends=True)) == (
            b"x" * 60 + b"y" * 40
        )
        for endless in (b"x" * 101, b"x\n" * 60, b"x" * 9_000_000):
            with pytest.raises(Transient, match="answered more than 100 bytes"):
                await self.whole(tmp_path, chunked(endless, ends=True))

    async def test_a_refusal_of_a_stranger_is_read_up_to_a_limit(self, tmp_path: Path) -> None:
        head = b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = head + b"800000\r\n" + b"x" * 0x800000 + b"\r\n"
        with pytest.raises(Transient, match="answered 500"):
            await self.whole(tmp_path, answer)

    @staticmethod
    async def whole(folder: Path, answer: bytes) -> bytes:
        async with (
            wired(folder, lambda _: answer) as (_server, transport),
            transport.stream("/x", query={}, timeout=5) as lines,
        ):
            return await lines.whole(100, 5)

    async def test_each_warning_of_the_server_is_logged_once(self, tmp_path: Path) -> None:
        answer = ok(b"{}", 'Warning: 299 - "say \\"please\\""', "Warning: odd")
        with capture_logs() as logs:
            async with wired(tmp_path, lambda _: answer) as (_server, transport):
                await transport.request("GET", "/x")
                await transport.request("GET", "/x")
        assert [each["warning"] for each in logs] == ['say "please"', "odd"]

    @staticmethod
    async def lines(folder: Path, answer: bytes) -> list[bytes]:
        found = []
        async with (
            wired(folder, lambda _: answer) as (_server, transport),
            transport.stream("/x", query={}, timeout=5) as lines,
        ):
            while line := await lines.next(5):
                found.append(line)
        return found


async def test_closing_leaves_no_socket_of_a_call_cancelled_as_its_handshake_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ResponseHandler.connection_made

    def cancelled(handler: ResponseHandler, connection: Any) -> None:
        made(handler, connection)
        task.cancel()

    monkeypatch.setattr(ResponseHandler, "connection_made", cancelled)
    with silent_tls_server(tmp_path) as server:
        path = kubeconfig(tmp_path, server.url)
        content = yaml.safe_load(path.read_text())
        content["clusters"][0]["cluster"]["certificate-authority"] = str(tmp_path / "authority")
        path.write_text(yaml.safe_dump(content))
        transport = await Transport.connect(user_agent="kit/1", kubeconfig=path)
        before = open_sockets()
        task = asyncio.create_task(transport.request("GET", "/x"))
        with pytest.raises(asyncio.CancelledError):
            await task
        await transport.close()
        assert open_sockets() - before - server.accepted == set()
        assert len(server.accepted) == 1


def open_sockets() -> set[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_socket()]
    return {str(link.readlink()) for link in links}


class SilentTls:
    """Ends the handshake, and never says goodbye."""

    def __init__(self, folder: Path) -> None:
        pair = issue(Names(("localhost",), ("127.0.0.1",)), datetime.now(UTC))
        for name, part in (("key", pair.key), ("certificate", pair.certificate)):
            (folder / name).write_bytes(part)
        (folder / "authority").write_bytes(pair.authorities)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "certificate", folder / "key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted: set[str] = set()

    def serve(self) -> None:
        raw, _ = self._listener.accept()
        self.accepted.add(f"socket:[{os.fstat(raw.fileno()).st_ino}]")
        with self._context.wrap_socket(raw, server_side=True):
            self._ended.wait(10)

    def close(self) -> None:
        self._ended.set()
        self._listener.close()


@contextmanager
def silent_tls_server(folder: Path) -> Iterator[SilentTls]:
    server = SilentTls(folder)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def test_the_librarys_models_are_not_loaded_and_its_import_still_works() -> None:
    code = (
        "import sys\n"
        "import controlkit.kube.client\n"
        "loaded = [name for name in sys.modules if name.startswith('kubernetes_asyncio')]\n"
        "assert loaded == [], loaded\n"
        "from kubernetes_asyncio.client import ApiClient, V1Pod\n"
        "print(V1Pod.__name__)\n"
    )
    done = asyncio.run(_python(code))
    assert done == "V1Pod\n"


async def _python(code: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()
