"""Addresses that training data may come from.

Invariant: it looks at the text and never at the network; an address that reads as one of the
machine's own, its neighbours' or the cloud's metadata service is recognised in every spelling that
the C library would accept. Names are resolved by whoever downloads, which checks again.
"""

import ipaddress
import re
import socket
from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult, urlsplit

from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule

FORM = Rule("url-form", "A URL begins with http:// or https:// and names a host.")
METADATA = Rule("url-metadata", "A URL does not lead to a cloud's metadata service.")
PRIVATE = Rule(
    "url-private",
    "A URL does not lead to the machine itself or to a private address, unless the chart's "
    "allowPrivateDataUrls is true.",
)
PASSWORD = Rule("url-password", "A URL does not hold a password, for all can read it.", warns=True)

_METADATA_NAMES: Final = (
    "metadata",
    "metadata.google",
    "metadata.google.internal",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
)
_METADATA_ADDRESSES: Final = (
    ipaddress.ip_address("169.254.169.254"),
    ipaddress.ip_address("168.63.129.16"),  # Azure's, to every virtual machine
    ipaddress.ip_address("100.100.100.200"),
    ipaddress.ip_address("fd00:ec2::254"),
)
_HOST: Final = re.compile(r"[a-z0-9_]([-a-z0-9_.]{0,252}[a-z0-9_.])?|[0-9a-f:.]+(%[a-z0-9]+)?")
"""ASCII only: other digits and dots would be read as these by some libraries and not by others."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def url_findings(field: str, text: str, *, private: bool) -> Iterator[Finding]:
    """What is wrong with a URL.

    Args:
        field: its path.
        text: the URL.
        private: whether the machine's own and private addresses are allowed.
    """
    url = _split(text)
    if url is None:
        yield FORM.broken(
            field,
            f"{shown(text)} is no URL to download from: write http:// or https://, a host and a path",
            text,
        )
        return
    host = (url.hostname or "").rstrip(".")
    address = _address(host)
    if host in _METADATA_NAMES or (address is not None and address in _METADATA_ADDRESSES):
        yield METADATA.broken(
            field,
            f"{shown(text)} leads to the cloud's metadata service, which holds no training data",
            text,
        )
    elif not private and (_is_local(host) or (address is not None and _is_private(address))):
        yield PRIVATE.broken(
            field,
            f"{shown(text)} leads to the machine itself or to a private address: name a public "
            "host, or have the chart's allowPrivateDataUrls set to true",
            text,
        )


def url_warnings(field: str, text: str) -> Iterator[Finding]:
    """What had better not be in a URL."""
    url = _split(text)
    if url is not None and url.password:
        yield PASSWORD.broken(field, "holds a password, which all who may read Workspaces can see")


def _split(text: str) -> SplitResult | None:
    if not text.isprintable() or " " in text:
        return None
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    if url.scheme not in ("http", "https") or port == 0:
        return None
    return url if _HOST.fullmatch(url.hostname or "") else None


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _address(host: str) -> Address | None:
    """The address that a host is written as: also 127.1, 0x7f000001 and ::ffff:127.0.0.1."""
    try:
        found: Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _is_private(address: Address) -> bool:
    return not address.is_global or address.is_multicast
