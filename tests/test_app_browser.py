"""The page in a real browser: its controls by mouse, touch and keyboard, and what a screen reader stumbles over."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from drawn_face import draw_face
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

pytestmark = pytest.mark.xdist_group("app")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("there is no chromium on this machine", allow_module_level=True)

READY = "body[data-painted]"
SERIOUS = {"serious", "critical"}
expect.set_options(timeout=60_000)  # the first photograph waits for its networks


@pytest.fixture(scope="module")
def address(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server of its own process, in a folder of its own in which it may write nothing."""
    home = tmp_path_factory.mktemp("home")
    before = sorted(small_study.rglob("*"))
    command = [sys.executable, "-m", "stylegan_surv", "app", str(small_study), "--no-browser"]
    place = {**os.environ, "TMPDIR": str(home)}
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place, cwd=home
    )
    assert server.stdout is not None
    try:
        line = server.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", line)
        yield line
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=20)
    assert server.returncode == 0
    assert re.fullmatch(r"Ended\. [\d\w, ]+\n", out)  # counts, and nothing else
    assert err == ""
    assert sorted(small_study.rglob("*")) == before
    assert [path for path in home.rglob("*") if path.is_file()] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1366, "height": 768})
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The page with its first edit, and no message in the console at the end."""
    said: list[str] = []
    asked: list[str] = []
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda fault: said.append(str(fault)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    opened.wait_for_selector(READY)
    yield opened
    opened.close()
    assert said == []
    here = address.partition("?")[0]
    assert [url for url in asked if not url.startswith((here, "data:", "blob:"))] == []


def painted(page: Page, step: str) -> None:
    page.wait_for_selector(f'body[data-painted="{step}"]')


def test_the_page_opens_with_a_face_and_without_the_token_in_its_address(page: Page, address: str) -> None:
    assert page.url == address.partition("?")[0]
    expect(page.locator("#note")).to_be_in_viewport()
    assert page.locator("#edit").evaluate("image => image.naturalWidth") == 64
    assert "predicted" in page.locator("#calibration").inner_text()
    assert page.locator("#findings li").count() >= 3


def test_the_slider_by_keyboard_and_by_mouse(page: Page) -> None:
    slider = page.locator("#step")
    slider.focus()
    before = page.locator("#edit").get_attribute("src")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    painted(page, "0.3")
    assert page.locator("#edit").get_attribute("src") != before
    assert "+0.3 SD of risk, hazard ratio" in (slider.get_attribute("aria-valuetext") or "")
    page.keyboard.press("End")
    painted(page, "3")
    expect(page.locator("#again")).to_contain_text("embedded again, scores")
    box = slider.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    painted(page, "-3")
    page.mouse.wheel(0, 2000)
    expect(page.locator("#note")).to_be_in_viewport()


def test_directions_layers_and_map(page: Page) -> None:
    page.locator("#step").fill("2")
    painted(page, "2")
    shown = {page.locator("#edit").get_attribute("src")}
    for name in ("coefficient", "pattern"):
        with page.expect_response("**/api/edit"):
            page.locator(f"input[value={name}]").check()
        page.wait_for_timeout(300)
        shown.add(page.locator("#edit").get_attribute("src"))
    with page.expect_response("**/api/edit"):
        page.locator("input[value=pattern]").focus()
        page.locator("input[value=coarse]").check()
    page.wait_for_timeout(300)
    shown.add(page.locator("#edit").get_attribute("src"))
    assert len(shown) == 4
    page.locator("#difference").check()
    expect(page.locator("#edit")).to_have_attribute("alt", re.compile("grey where nothing has changed"))


def test_hold_to_compare_and_play(page: Page) -> None:
    page.locator("#step").fill("1")
    painted(page, "1")
    compare = page.locator("#compare")
    edited = page.locator("#edit").get_attribute("src")
    compare.hover()
    page.mouse.down()
    expect(page.locator("#edit-words")).to_have_text("Before the edit")
    page.mouse.up()
    assert page.locator("#edit").get_attribute("src") == edited
    compare.focus()
    page.keyboard.down(" ")
    expect(compare).to_have_attribute("aria-pressed", "true")
    page.keyboard.up(" ")
    expect(compare).to_have_attribute("aria-pressed", "false")
    page.locator("#play").press("Enter")
    expect(page.locator("body")).to_have_attribute("data-painted", re.compile(r"^(1\.[3-9]|2)"))
    page.locator("#play").press("Enter")
    expect(page.locator("#play")).to_have_text("Play")


def test_a_photograph_is_chosen_and_another_is_none(page: Page) -> None:
    jpeg = page_file()
    page.locator("#file").set_input_files({"name": "me.jpg", "mimeType": "image/jpeg", "buffer": jpeg})
    expect(page.locator("#quality")).to_contain_text("LPIPS")
    expect(page.locator("#photo-words")).to_have_text("Photograph")
    expect(page.locator("#faithful")).to_be_visible()
    expect(page.locator("#working")).to_be_hidden()
    letter = {"name": "me.jpg", "mimeType": "image/jpeg", "buffer": b"Dear colleague,\n" * 99}
    page.locator("#file").set_input_files(letter)
    expect(page.locator("#fault")).to_contain_text("not a picture that can be read")
    expect(page.locator("#photo-words")).to_have_text("Photograph")
    page.locator("#another").click()
    expect(page.locator("#photo-words")).to_have_text("Nobody's face")
    expect(page.locator("#fault")).to_be_hidden()


def test_a_file_is_dropped_and_one_that_is_too_large_is_not_sent(page: Page) -> None:
    page.evaluate(
        """(data) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(data)], "me.jpg"));
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true}));
        }""",
        list(page_file()),
    )
    expect(page.locator("#photo-words")).to_have_text("Photograph")
    expect(page.locator("#working")).to_be_hidden()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.evaluate(
        """() => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(40 * 2 ** 20)], "large.png"));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: files, bubbles: true}));
        }"""
    )
    expect(page.locator("#fault")).to_contain_text("40 MB; at most 32 MB")
    assert not [url for url in sent if url.endswith("photograph")]


def test_files_are_taken_along(page: Page) -> None:
    for name in ("strip.png", "latent.npz", "shown.json"):
        with page.expect_download() as waiting:
            page.locator(f"[data-name='{name}']").click()
        assert waiting.value.suggested_filename == name
        assert Path(waiting.value.path()).stat().st_size > 500


def test_the_report_opens_with_a_slider_of_its_own(page: Page) -> None:
    with page.context.expect_page() as waiting:
        page.locator("#report").click()
    report = waiting.value
    slider = report.locator("figure.slider input")
    slider.focus()
    report.keyboard.press("ArrowRight")
    expect(report.locator("figure.slider output")).to_have_text("+0.3 SD of risk")
    assert "-1100%" in (report.locator("figure.slider img").get_attribute("style") or "")
    report.emulate_media(media="print")
    expect(report.locator("figure.still")).to_be_visible()
    expect(slider).to_be_hidden()
    report.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.locator("#step").fill("1.5")
    painted(page, "1.5")
    expect(page.locator("#again")).to_contain_text("Likeness")
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found if v["impact"] in SERIOUS] == []


def test_a_telephone(browser: Browser, address: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = phone.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector(READY)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator("#step")).to_be_in_viewport()
    box = page.locator("#step").bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    painted(page, "3")
    page.locator("#another").tap()
    expect(page.locator("#status")).to_contain_text("nobody's")
    for control in page.locator("button:visible, #step, .file").all():
        size = control.bounding_box()
        assert size is not None
        assert size["height"] >= 44  # px that a finger hits
    phone.close()


def test_a_foreign_page_gets_nothing(
    browser: Browser, context: BrowserContext, page: Page, address: str
) -> None:
    here = address.partition("?")[0]
    foreign = context.new_page()
    foreign.route(
        "http://evil.example/**", lambda route: route.fulfill(body="<p>evil</p>", content_type="text/html")
    )
    foreign.goto("http://evil.example/")
    took = foreign.evaluate(
        """async (here) => {
            const tried = [];
            for (const [path, how] of [["api/study", {}], ["api/tab", {method: "POST"}], ["healthz", {}],
                                       ["api/tab", {method: "POST", mode: "no-cors"}]]) {
                try {
                    const answer = await fetch(here + path, {credentials: "include", ...how});
                    tried.push(await answer.text());
                } catch { tried.push("refused"); }
            }
            return tried;
        }""",
        here,
    )
    assert set(took) <= {"refused", ""}
    foreign.close()


def page_file() -> bytes:
    import io

    buffer = io.BytesIO()
    draw_face(400).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
