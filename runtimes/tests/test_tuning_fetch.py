"""Fetching datasets from servers that are slow, wrong, gone, or not what they seem."""

import hashlib
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import serving_asgi
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from runtimes.failure import Exit, Failure
from runtimes.tuning import fetch
from runtimes.tuning.fetch import Limits, fetch_all, is_forbidden, shown

BODY = b'{"text": "t"}\n' * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server:
    """Answers by path, and counts."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/{what:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        what = request.path_params["what"]
        self.asked[what] = self.asked.get(what, 0) + 1
        if what == "flaky" and self.asked[what] < 3:
            return PlainTextResponse("busy", 503)
        if what.isdigit():
            return PlainTextResponse("no", int(what))
        if what == "loop":
            return RedirectResponse("/loop")
        if what == "to":
            return RedirectResponse(request.query_params["url"])
        return Response(b"" if what == "empty" else BODY)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.01)
    with serving_asgi(server.application()) as address:
        yield address


LOCAL = Limits(1 << 20, allow_local_addresses=True)


def refused(url: str, folder: Path, limits: Limits = LOCAL) -> Failure:
    with pytest.raises(Failure) as caught:
        fetch_all([url], folder, limits)
    return caught.value


def test_files_arrive_whole_and_in_order(url: str, tmp_path: Path) -> None:
    urls = [f"{url}/b/train.jsonl?key=s3cret", f"{url}/a/train.jsonl#sha256={DIGEST}"]
    files = fetch_all(urls, tmp_path, LOCAL)
    assert [file.name for file in files] == ["000-train.jsonl", "001-train.jsonl"]
    assert [file.read_bytes() for file in files] == [BODY, BODY]


def test_a_busy_server_is_asked_again(url: str, server: Server, tmp_path: Path) -> None:
    assert fetch_all([f"{url}/flaky"], tmp_path, LOCAL)[0].read_bytes() == BODY
    assert server.asked["flaky"] == 3


def test_a_server_that_stays_busy_may_be_tried_later(
    url: str, server: Server, tmp_path: Path
) -> None:
    failure = refused(f"{url}/503", tmp_path)
    assert failure.code == Exit.UNEXPECTED  # which a Job tries again
    assert "3 times in a row: the server answers 503" in failure.message
    assert server.asked["503"] == 3


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("404", "the server answers 404; check the URL"),
        ("403", "the server answers 403; its key may have run out"),
        ("204", "the server answers 204"),
        ("empty", "it is empty"),
        ("loop", "more than 5 redirects"),
        ("to?url=file:///etc/passwd", "only http:// and https://"),
        (f"x#sha256={'0' * 64}", f"its SHA-256 is {DIGEST}, not {'0' * 64}"),
        ("x#part2", "its fragment is not sha256="),
    ],
)
def test_what_no_retry_mends(
    path: str, words: str, url: str, server: Server, tmp_path: Path
) -> None:
    failure = refused(f"{url}/{path}", tmp_path)
    assert failure.code == Exit.DATA
    assert words in failure.message
    assert path == "loop" or all(times == 1 for times in server.asked.values())


def test_a_dataset_larger_than_allowed(url: str, tmp_path: Path) -> None:
    limits = Limits(len(BODY) + 10, allow_local_addresses=True)
    with pytest.raises(Failure, match="raise --max_data_bytes") as caught:
        fetch_all([f"{url}/1", f"{url}/x", f"{url}/y"][1:], tmp_path, limits)
    assert caught.value.code == Exit.DATA


def test_a_key_in_a_url_is_never_shown(url: str, tmp_path: Path) -> None:
    failure = refused(f"{url}/404?sig=s3cret", tmp_path)
    assert "s3cret" not in failure.message
    assert shown("https://me:s3cret@x.example/a?sig=s3cret#f") == "https://x.example/a"


@pytest.mark.parametrize(
    "scheme", ["file:///etc/passwd", "ftp://x.example/a", "/mnt/data", "https://"]
)
def test_other_schemes(scheme: str, tmp_path: Path) -> None:
    assert "only http:// and https://" in refused(scheme, tmp_path).message


def test_local_addresses_have_to_be_allowed(url: str, server: Server, tmp_path: Path) -> None:
    failure = refused(f"{url}/x", tmp_path, Limits(1 << 20))
    assert failure.code == Exit.DATA
    assert "127.0.0.1 belongs to the machine or its platform" in failure.message
    assert "--allow_local_addresses" in failure.message
    assert server.asked == {}


def test_metadata_services_are_never_allowed(tmp_path: Path) -> None:
    failure = refused("http://169.254.169.254/latest", tmp_path, LOCAL)
    assert failure.code == Exit.DATA
    assert "metadata service" in failure.message


def test_a_name_that_resolves_to_a_local_address(url: str, server: Server, tmp_path: Path) -> None:
    named = url.replace("127.0.0.1", "localhost")
    assert "belongs to the machine" in refused(f"{named}/x", tmp_path, Limits(1 << 20)).message
    assert server.asked == {}


def test_a_name_that_resolves_to_another_address_the_second_time(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))]
    real = socket.getaddrinfo
    answers = [public]

    def rebinding(*arguments: object, **named: object) -> object:
        return answers.pop() if answers else real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert "belongs to the machine" in refused(f"{url}/x", tmp_path, Limits(1 << 20)).message


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("169.254.169.254", True),
        ("168.63.129.16", True),
        ("fe80::1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("240.0.0.1", True),
        ("fd00:ec2::254", True),
        ("10.0.0.5", False),
        ("192.168.1.1", False),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
    ],
)
def test_addresses(address: str, forbidden: bool) -> None:
    assert is_forbidden(ipaddress.ip_address(address)) == forbidden
