"""The server as a process: up at once, deaf to what is too long, gone at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from stylegan_surv.app.door import HEADS
from stylegan_surv.app.routes import MEBI, PHOTOGRAPH
from stylegan_surv.cli import cli

pytestmark = pytest.mark.xdist_group("app")


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    token: str

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        cookie = f"stylegan-surv-{self.port}={self.token}"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Cookie": cookie, **given})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def tab(self) -> str:
        return str(json.loads(self.ask("POST", "/api/tab", b"{}")[1])["tab"])


@pytest.fixture
def server(small_study: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "stylegan_surv", "app", str(small_study), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", line)
    assert found, line
    yield Server(process, int(found[1]), found[2])
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_it_answers_before_the_networks_are_there_and_ends_at_once(server: Server) -> None:
    assert server.ask("GET", "/healthz") == (200, b"ok")
    status, picture = server.ask("GET", "/api/first")
    assert (status, picture[:4]) == (200, b"\x89PNG")
    slow = threading.Thread(
        target=server.ask, args=("GET", "/api/study"), kwargs={"x_tab": server.tab()}, daemon=True
    )
    slow.start()
    start = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    out, err = server.process.communicate(timeout=30)
    assert time.monotonic() - start < 10  # 1–2 s on a machine that is not busy
    assert (server.process.returncode, out, err) == (0, "Ended. 1 tabs\n", "")


def test_headers_and_bodies_that_are_too_long_are_refused_and_leave_no_memory(server: Server) -> None:
    assert server.ask("GET", "/healthz", x_long="a" * (HEADS + 1))[0] == 431
    with contextlib.suppress(ConnectionError):  # it may hang up before all of it is sent
        assert server.ask("GET", "/healthz", x_long="a" * (8 * HEADS))[0] in (400, 431)
    tab = server.tab()
    process = psutil.Process(server.process.pid)
    server.ask("GET", "/api/study", x_tab=tab)
    before = process.memory_info().rss
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as line:  # the tab is closed in the middle
            head = f"POST /api/photograph HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-Tab: {tab}\r\n"
            head += (
                f"Cookie: stylegan-surv-{server.port}={server.token}\r\nContent-Length: {PHOTOGRAPH}\r\n\r\n"
            )
            line.sendall(head.encode() + bytes(4 * MEBI))
    for _ in range(100):
        status, answer = server.ask("POST", "/api/photograph", b"x" * 100, x_tab=tab)
        if status == 200:
            break
        time.sleep(0.1)  # the last of them is still noticed
    assert b"not a picture" in answer
    assert process.memory_info().rss - before < 64 * MEBI
    server.process.send_signal(signal.SIGINT)
    _, err = server.process.communicate(timeout=30)
    assert err == ""


def test_what_cannot_be_served_is_one_message(tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["app", str(tmp_path), "--no-browser"])
    assert "no metrics.json" in str(run.exception)
    (tmp_path / "metrics.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = CliRunner().invoke(cli, ["app", str(tmp_path), "--no-browser", "--port", port])
    assert "cannot be used" in str(run.exception)
    run = CliRunner().invoke(cli, ["app", str(tmp_path), "--no-browser", "--host", "10.0.0.5"])
    assert "give a password" in str(run.exception)
    run = CliRunner().invoke(cli, ["app", str(tmp_path), "--no-browser", "--faces"])
    assert "--photos" in str(run.exception)
