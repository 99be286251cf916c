"""Chooses the ports and addresses that a sandbox listens on."""

import fcntl
import ipaddress
import os
import random
import socket

import psutil

from sandbox import tools

# Below Linux's ephemeral range (from 32768), so that no outgoing connection takes a port
# between the moment we find it free and the moment its program binds it.
_PORTS = range(20000, 32768)
_UNREACHABLE = "192.0.2.1"  # reserved for documentation (RFC 5737)


def free_ports(count: int) -> list[int]:
    """Returns `count` different TCP ports on which nothing listens.

    No other caller gets one of them while this process lives.
    """
    ports: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if _reserve(port) and _is_free(port):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")


def _reserve(port: int) -> bool:
    folder = tools.cache_folder() / "ports"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / str(port), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    return True  # and the handle stays open: the lock is to last as long as this process


def host_address() -> str:
    """Returns the IPv4 address of this host that its pods can reach.

    A host without any but loopback addresses gets one that nobody answers at: Kubernetes
    refuses to advertise loopback, and such a host has no pods to mislead.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))  # picks a route; a datagram socket sends nothing
        except OSError:
            return _first_address()
        address: str = probe.getsockname()[0]
        return address


def _first_address() -> str:
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not ipaddress.ip_address(each.address).is_loopback:
                return each.address
    return _UNREACHABLE


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
