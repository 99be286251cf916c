"""Fetch dataset files by HTTP.

What is not a whole file with status 200 from an allowed address is never used as data. A URL's query may hold
a key, so it is never shown.
"""

import hashlib
import ipaddress
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import structlog

from runtimes.failure import Exit, Failure

TRIES = 3
PAUSE_SECONDS = 2.0
MAX_REDIRECTS = 5
TIMEOUT = httpx2.Timeout(30.0, read=60.0)
# Cloud platforms answer machines at these with what only the machine may know.
PLATFORM_ADDRESSES = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"),
    )
)
_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256=([0-9a-fA-F]{64})")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """`bytes` for all files together; `seconds` for each file."""

    bytes: int
    seconds: float = 3600.0
    allow_local_addresses: bool = False


class Unavailable(Exception):
    """The server or the network may give it later."""


def fetch_all(urls: Sequence[str], folder: Path, limits: Limits) -> list[Path]:
    """Fetch each URL into `folder`, in order; the files.

    A URL may end in `#sha256=HEX`. Raises `Failure`: DATA for what no retry mends.
    """
    files: list[Path] = []
    left = limits.bytes
    with httpx2.Client(timeout=TIMEOUT, follow_redirects=False) as client:
        for number, url in enumerate(urls):
            file = folder / f"{number:03d}-{_name(url)}"
            log.info("fetching", url=shown(url))
            _with_patience(client, url, file, limits, left)
            size = file.stat().st_size
            left -= size
            log.info("fetched", url=shown(url), bytes=size)
            files.append(file)
    return files


def shown(url: str) -> str:
    """The URL without what may be secret: user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _name(url: str) -> str:
    name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    return re.sub(r"[^\w.-]", "_", name)[-100:] or "data"


def _with_patience(client: httpx2.Client, url: str, file: Path, limits: Limits, left: int) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            _fetch(client, url, file, limits, left)
        except (httpx2.TransportError, Unavailable) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if attempt == TRIES:
                raise Failure(
                    Exit.UNEXPECTED,
                    f"{shown(url)} cannot be fetched, {TRIES} times in a row: {reason}",
                ) from error
            pause = PAUSE_SECONDS * 2 ** (attempt - 1)
            log.warning("the fetch failed", url=shown(url), error=reason, again_in_s=pause)
            time.sleep(pause)
        else:
            return


def _fetch(client: httpx2.Client, url: str, file: Path, limits: Limits, left: int) -> None:
    address, fragment = urldefrag(url)
    wanted = _DIGEST.fullmatch(fragment)
    if fragment and not wanted:
        raise _refused(url, f"its fragment is not sha256= and 64 hex digits ({fragment[:20]!r})")
    digest = hashlib.sha256()
    deadline = time.monotonic() + limits.seconds
    size = 0
    with _answer(client, address, limits) as answer, file.open("wb") as out:
        for chunk in answer.iter_bytes(_CHUNK):
            size += len(chunk)
            if size > left:
                raise _refused(
                    url, f"all files together exceed {limits.bytes:,} bytes; raise --max_data_bytes"
                )
            if time.monotonic() > deadline:
                raise Unavailable(f"no end after {limits.seconds:.0f} s and {size:,} bytes")
            out.write(chunk)
            digest.update(chunk)
    if not size:
        raise _refused(url, "it is empty")
    if wanted and digest.hexdigest() != wanted[1].lower():
        raise _refused(url, f"its SHA-256 is {digest.hexdigest()}, not {wanted[1].lower()}")


@contextmanager
def _answer(client: httpx2.Client, url: str, limits: Limits) -> Iterator[httpx2.Response]:
    """The answer with status 200, after redirects, each of which is checked like the first URL."""
    for _ in range(MAX_REDIRECTS + 1):
        proxied = _check(url, limits)
        with client.stream("GET", url) as answer:
            if not proxied:
                _check_peer(url, answer, limits)
            if not answer.is_redirect:
                _check_status(url, answer.status_code)
                yield answer
                return
            url = str(httpx2.URL(url).join(answer.headers["location"]))
    raise _refused(url, f"more than {MAX_REDIRECTS} redirects")


def _check_status(url: str, status: int) -> None:
    if status == 200:
        return
    if status >= 500 or status in {408, 425, 429}:
        raise Unavailable(f"the server answers {status}")
    remedy = "its key may have run out" if status in {401, 403} else "check the URL"
    raise _refused(url, f"the server answers {status}; {remedy}")


def _check(url: str, limits: Limits) -> bool:
    """Refuse other schemes, and hosts that resolve to a forbidden address; True behind a proxy.

    A proxy resolves names itself, and is trusted with what it lets through.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _refused(url, "only http:// and https:// URLs are fetched")
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname):
        return True
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{parts.hostname} is not found: {error}") from error
    except ValueError as error:
        raise _refused(url, f"it is not a URL: {error}") from error
    for *_, address in found:
        _check_address(url, str(address[0]), limits)
    return False


def _check_peer(url: str, answer: httpx2.Response, limits: Limits) -> None:
    """Whom we talk to in fact: a name may resolve to another address the second time."""
    peer = answer.extensions["network_stream"].get_extra_info("server_addr")
    _check_address(url, str(peer[0]), limits)


def _check_address(url: str, text: str, limits: Limits) -> None:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address in PLATFORM_ADDRESSES:
        raise _refused(url, f"at {address} the cloud's metadata service answers, and holds no data")
    if is_forbidden(address) and not limits.allow_local_addresses:
        raise _refused(
            url,
            f"{address} belongs to the machine or its platform; if the data is really there, set "
            "--allow_local_addresses (in a Workspace's pod: the chart's allowPrivateDataUrls)",
        )


def is_forbidden(address: Address) -> bool:
    """True for the machine itself, its link (cloud metadata), and nobody's addresses.

    Private networks are allowed: data is often kept inside the cluster.
    """
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or address in PLATFORM_ADDRESSES
    )


def _refused(url: str, why: str) -> Failure:
    return Failure(Exit.DATA, f"{shown(url)}: {why}")
