"""No connection leaves this machine: Python imports this at its start wherever the folder is on PYTHONPATH."""

from __future__ import annotations

import ipaddress
import socket
import sys

LOCAL = {None, "", "localhost", b"localhost", socket.gethostname(), "<broadcast>"}
ASKED = ("socket.getaddrinfo", "socket.gethostbyname")
SENT = ("socket.connect", "socket.sendto", "socket.sendmsg")


class Connection(BaseException):
    """Something wanted to reach another machine; no ``except Exception`` hides it."""


def is_local(host: object) -> bool:
    """Whether a host is this machine."""
    if host in LOCAL:
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host).split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook that stops connections, and questions for names, that leave the machine."""
    if event in ASKED and not is_local(arguments[0]):
        try:
            ipaddress.ip_address(str(arguments[0]))  # an address is not looked up anywhere
        except ValueError:
            raise Connection(f"{event} {arguments}") from None
    if event in SENT:
        place, address = arguments[0], arguments[-1]
        dials = event == "socket.connect" and place.type & 0xF == socket.SOCK_DGRAM  # type: ignore[attr-defined]
        if (
            isinstance(address, tuple) and not is_local(address[0]) and not dials
        ):  # a dialled datagram sends nothing
            raise Connection(f"{event} {address}")


sys.addaudithook(watch)
