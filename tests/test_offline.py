"""The tests themselves run without a network; what would connect is stopped, also in subprocesses."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])  # reserved for documentation
def test_a_connection_is_stopped(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(BaseException, match=r"socket\.connect"):
        client.connect(address)


def test_a_question_for_a_name_is_stopped() -> None:
    with pytest.raises(BaseException, match=r"socket\.getaddrinfo"):
        socket.getaddrinfo("example.org", 80)


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_subprocesses_are_watched() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Connection: socket.connect ('192.0.2.1', 80)" in run.stderr


def test_importing_and_helping_connects_to_nothing() -> None:
    code = "import stylegan_surv.cli as c; c.cli.main(['--help'], standalone_mode=False)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
