"""Who may come in: no foreign page, no rebound name, nobody without the token, no path that leads elsewhere."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from stylegan_surv.app.door import Door
from stylegan_surv.app.routes import PHOTOGRAPH, QUESTION, Desk, make_app
from stylegan_surv.app.serve import ServeSettings
from stylegan_surv.app.tabs import IDLE, MOST, Tabs
from stylegan_surv.errors import InputError

HOST = "127.0.0.1:8000"
DOOR = Door.new("127.0.0.1", 8000)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """A browser that has opened the printed address; the study is not loaded, for nobody gets so far."""
    visitor = TestClient(make_app(Desk(tmp_path, DOOR)), base_url=f"http://{HOST}")
    visitor.get(f"/?token={DOOR.token}")
    return visitor


@pytest.fixture
def stranger(tmp_path: Path) -> TestClient:
    return TestClient(make_app(Desk(tmp_path, DOOR)), base_url=f"http://{HOST}")


def test_the_printed_address_opens_the_page_and_gives_a_cookie_that_scripts_and_other_sites_cannot_use(
    stranger: TestClient,
) -> None:
    answer = stranger.get(f"/?token={DOOR.token}")
    assert answer.status_code == 200
    assert "An association in one cohort, not a diagnosis." in answer.text
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert stranger.get("/page.js").status_code == 200
    assert stranger.get("/").status_code == 200


def test_without_the_token_nothing_is_shown_but_health(stranger: TestClient) -> None:
    for path in (
        "/",
        "/page.js",
        "/report",
        "/api/study",
        "/api/first",
        "/?token=",
        "/?token=wrong",
        "/nothing",
    ):
        assert stranger.get(path).status_code == 401
    assert stranger.post("/api/tab").status_code == 401
    assert (stranger.get("/healthz").status_code, stranger.get("/healthz").text) == (200, "ok")


def test_a_token_of_another_place_is_none(stranger: TestClient) -> None:
    assert stranger.get(f"/api/study?token={DOOR.token}").status_code == 401
    assert stranger.get("/page.js", headers={"cookie": f"{DOOR.cookie}=wrong"}).status_code == 401
    assert stranger.get("/page.js", headers={"cookie": f"other={DOOR.token}"}).status_code == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8000.evil.example", ""],
)
def test_a_rebound_host_is_refused_everywhere(client: TestClient, host: str) -> None:
    for path in ("/", "/page.js", "/healthz", f"/?token={DOOR.token}"):
        assert client.get(path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
def test_the_names_of_this_machine_are_answered(stranger: TestClient, host: str) -> None:
    assert stranger.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://127.0.0.1:8000",
        "http://127.0.0.1:9000",
        "http://localhost:8000",
    ],
)
def test_a_foreign_origin_is_refused(client: TestClient, origin: str) -> None:
    assert client.post("/api/tab", headers={"origin": origin}).status_code == 403
    assert client.get("/page.js", headers={"origin": origin}).status_code == 403


def test_the_page_itself_is_let_in(client: TestClient) -> None:
    own = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
    assert client.post("/api/tab", headers=own).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_picture_or_script_of_another_page_is_refused(client: TestClient, site: str) -> None:
    assert client.get("/api/first", headers={"sec-fetch-site": site}).status_code == 403
    assert client.get("/healthz", headers={"sec-fetch-site": site}).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(client: TestClient, method: str) -> None:
    assert client.request(method, "/api/tab").status_code == 405


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "/static/page.html", "/page.js/../../routes.py", "//etc/passwd",
     "/..%2f..%2fetc%2fpasswd", "/report/../metrics.json", "/metrics.json", "/%00"],
)  # fmt: skip
def test_no_path_leads_to_a_file(client: TestClient, tmp_path: Path, path: str) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    assert client.get(path).status_code == 404


def test_every_answer_carries_the_headers(client: TestClient) -> None:
    for answer in (
        client.get("/"),
        client.get("/nothing"),
        client.get("/", headers={"host": "evil.example"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_report_is_of_no_origin(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/report").status_code == 400
    (tmp_path / "report.html").write_text("<p>here</p>")
    answer = client.get("/report")
    assert answer.text == "<p>here</p>"
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in answer.headers["content-security-policy"]


def test_the_page_asks_for_nothing_elsewhere() -> None:
    folder = Path(__file__).parents[1] / "stylegan_surv" / "app" / "static"
    for path in folder.iterdir():
        text = path.read_text()
        assert not [u for u in re.findall(r"https?://[^\s\"']+", text) if u != "http://www.w3.org/2000/svg"]
        assert not re.search(r"\son\w+=|style=", text)  # the policy would not run it
        assert "<script>" not in text


def test_too_large_requests_are_refused_before_they_are_read(client: TestClient) -> None:
    tab = {"x-tab": client.post("/api/tab").json()["tab"]}
    said = {**tab, "content-length": str(200 * 2**20)}
    assert client.post("/api/photograph", headers=said, content=b"x").status_code == 413
    assert client.post("/api/edit", headers=tab, content=b" " * (QUESTION + 1)).status_code == 413


def test_a_stream_that_does_not_say_its_length_ends_at_the_limit(client: TestClient) -> None:
    tab = {"x-tab": client.post("/api/tab").json()["tab"]}
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield bytes(PHOTOGRAPH // 50)

    answer = client.post("/api/photograph", headers=tab, content=chunks())
    assert answer.status_code == 413
    assert "32 MB" in answer.json()["text"]
    assert (
        client.post("/api/photograph", headers=tab, content=chunks()).status_code == 413
    )  # not busy for ever


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"1"])
def test_a_damaged_question_is_one_message(client: TestClient, content: bytes) -> None:
    tab = {"x-tab": client.post("/api/tab").json()["tab"]}
    answer = client.post("/api/face", headers=tab, content=content)
    assert answer.status_code == 400
    assert "Traceback" not in answer.text


def test_tabs_are_known_by_secret_names_alone(client: TestClient) -> None:
    for name in ("", "x", "a" * 22):
        assert client.post("/api/edit", headers={"x-tab": name}, content=b"{}").status_code == 410
    tab = client.post("/api/tab").json()["tab"]
    assert client.post("/api/stop", headers={"x-tab": tab}).status_code == 204
    assert client.post("/api/close", content=tab.encode()).status_code == 204
    assert client.post("/api/stop", headers={"x-tab": tab}).status_code == 410


def test_idle_tabs_and_too_many_are_dropped() -> None:
    tabs = Tabs()
    first = tabs.new()
    stop = tabs.get(first).begin()
    others = [tabs.new() for _ in range(MOST)]
    assert first not in tabs.open
    assert stop.is_set()
    tabs.open[others[0]].used -= IDLE + 1
    tabs.sweep()
    assert others[0] not in tabs.open
    assert len(tabs.open) == MOST - 1


def test_a_password_is_asked_for_besides_the_token(tmp_path: Path) -> None:
    door = Door.new("10.0.0.5", 8000, "geheim ß")
    visitor = TestClient(make_app(Desk(tmp_path, door)), base_url="http://10.0.0.5:8000")

    def basic(word: str) -> dict[str, str]:
        return {"authorization": "Basic " + base64.b64encode(f"me:{word}".encode()).decode()}

    asked = visitor.get(f"/?token={door.token}")
    assert asked.status_code == 401
    assert asked.headers["www-authenticate"].startswith("Basic")
    assert visitor.get(f"/?token={door.token}", headers=basic("wrong")).status_code == 401
    assert visitor.get("/", headers=basic("geheim ß")).status_code == 401
    assert visitor.get(f"/?token={door.token}", headers=basic("geheim ß")).status_code == 200
    assert visitor.get("/healthz", headers={"host": "127.0.0.1:8000"}).status_code == 421


NOT_SO = [("0.0.0.0", ""), ("10.0.0.5", ""), ("example.org", ""), ("0.0.0.0", "x"), ("::", "x")]


@pytest.mark.parametrize(("host", "password"), NOT_SO)
def test_other_machines_need_a_name_and_a_password(host: str, password: str) -> None:
    with pytest.raises(InputError, match="host is"):
        ServeSettings(host=host, password=password)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_the_loopback_needs_none(host: str) -> None:
    assert ServeSettings(host=host).password == ""
