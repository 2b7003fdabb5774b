"""What the page's server answers: edits equal to those of `edit`, uploads that go wrong, tabs apart from each other."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_face import draw_face
from PIL import Image
from starlette.testclient import TestClient

from stylegan_surv.app.door import Door
from stylegan_surv.app.exhibit import Exhibit, Way
from stylegan_surv.app.routes import Desk, make_app
from stylegan_surv.app.work import Stopped, Worker, told
from stylegan_surv.attribute import difference, edit
from stylegan_surv.attribute.slider import FRAMES, LEAST_DB, Slider, psnr
from stylegan_surv.inversion.again import beginning

pytestmark = pytest.mark.xdist_group("app")
HOST = "127.0.0.1:8000"
ADJUSTED = {"kind": "adjusted", "layers": "all"}


class Tab:
    """A tab of a browser that has opened the printed address."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.head = {"x-tab": client.post("/api/tab").json()["tab"]}

    def ask(self, name: str, **given: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/{name}", headers=self.head, json=given)
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = answer.json()
        return record

    def upload(self, data: bytes) -> tuple[list[str], dict[str, Any]]:
        """Names of the events, and the data of the last."""
        answer = self.client.post("/api/photograph", headers=self.head, content=data)
        assert answer.status_code == 200, answer.text
        parts = [part.split("\n") for part in answer.text.strip().split("\n\n")]
        return [part[0].removeprefix("event: ") for part in parts], json.loads(
            parts[-1][1].removeprefix("data: ")
        )


@pytest.fixture(scope="module")
def desk(small_study: Path) -> Desk:
    return Desk(small_study, Door.new("127.0.0.1", 8000))


@pytest.fixture(scope="module")
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(make_app(desk), base_url=f"http://{HOST}") as browser:
        browser.get(f"/?token={desk.door.token}")
        yield browser


@pytest.fixture
def tab(client: TestClient) -> Tab:
    return Tab(client)


@pytest.fixture(scope="module")
def exhibit(small_study: Path) -> Exhibit:
    return Exhibit.open(small_study)


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB"))


def encoded(image: Image.Image, kind: str = "JPEG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


FACE = draw_face(512)


def test_page_edit_and_report_show_equal_pixels(tab: Tab, exhibit: Exhibit, small_study: Path) -> None:
    tab.ask("face")
    steps, kind = [-3.0, -0.3, 0.0, 1.5], exhibit.attribute.shown
    given = [picture(tab.ask("edit", step=s, kind=kind, layers="all")["picture"]) for s in steps]
    drawn = edit(exhibit.attribute, exhibit.average(), steps, kind=kind, generator=exhibit.generator)
    for a, b in zip(given, drawn):
        np.testing.assert_array_equal(pixels(a), pixels(b))
    frames = Slider((small_study / "slider.webp").read_bytes()).frames()
    assert len((small_study / "slider.webp").read_bytes()) * 4 / 3 <= 300_000
    for step, picked in zip(steps, drawn):
        assert psnr(frames[FRAMES.index(step)], picked) >= LEAST_DB


def test_a_step_looks_the_same_whatever_is_drawn_with_it(exhibit: Exhibit) -> None:
    many = edit(exhibit.attribute, exhibit.average(), FRAMES, generator=exhibit.generator)
    for step in (-2.4, 0.9):
        (alone,) = edit(exhibit.attribute, exhibit.average(), [step], generator=exhibit.generator)
        np.testing.assert_array_equal(pixels(alone), pixels(many[FRAMES.index(step)]))


def test_one_step_is_one_standard_deviation_and_its_hazard_ratio(tab: Tab, exhibit: Exhibit) -> None:
    tab.ask("face", seed=5)
    risks = [tab.ask("edit", step=s, kind="coefficient", layers="all") for s in (0, 1, 2)]
    for k in (1, 2):
        assert risks[k]["risk_sd"] - risks[0]["risk_sd"] == pytest.approx(k, abs=1e-3)
        assert risks[k]["hazard_ratio"] == pytest.approx(np.exp(k * exhibit.attribute.risk_sd), rel=1e-3)
    assert risks[2]["percentile"] > risks[0]["percentile"]
    assert np.all(np.array(risks[2]["survival"][1:]) < np.array(risks[0]["survival"][1:]))


def test_survival_is_the_models_within_its_refits(tab: Tab, exhibit: Exhibit) -> None:
    tab.ask("face", seed=1)
    shown = tab.ask("edit", step=0.5, **ADJUSTED)
    start = exhibit.another(1)
    moved = start.numpy() + 0.5 * exhibit.attribute.direction("adjusted")
    expected = exhibit.model.predict_survival_function(moved.reshape(1, -1), exhibit.page.survival.time)[0]
    np.testing.assert_allclose(shown["survival"], expected, atol=1e-3)
    assert exhibit.page.refits is not None
    curves = exhibit.page.refits.survival(moved.ravel())
    np.testing.assert_allclose(shown["low"], curves.min(axis=0), atol=1e-3)
    assert np.all(np.array(shown["low"]) <= np.array(shown["high"]))


def test_layers_move_alone_and_sum_up(exhibit: Exhibit) -> None:
    whole = exhibit.attribute
    parts = [exhibit.along(Way("pattern", name)).pattern for name in ("coarse", "middle", "fine")]
    np.testing.assert_allclose(sum(parts), whole.pattern)
    assert not parts[0][4:].any()
    assert parts[0][:4].any()


def test_the_reach_ends_where_latents_become_unusual(tab: Tab, exhibit: Exhibit) -> None:
    tab.ask("face")
    for way in ({"kind": "coefficient", "layers": "all"}, ADJUSTED):
        found = tab.ask("reach", **way)
        assert found["low"] <= 0 <= found["high"]
        for end, beyond in ((found["low"], -0.1), (found["high"], 0.1)):
            assert tab.ask("edit", step=end, **way)["usual"]
            if abs(end) < 3:
                assert not tab.ask("edit", step=round(end + beyond, 1), **way)["usual"]
    far = exhibit.average() + 40 * exhibit.generator.mapping.w_avg.std()
    assert not exhibit.usual(far[None])[0]


def test_the_difference_map_is_grey_where_nothing_changes(tab: Tab) -> None:
    tab.ask("face")
    none = tab.ask("edit", step=0, difference=True, **ADJUSTED)
    assert (pixels(picture(none["difference"])) == 128).all()
    some = tab.ask("edit", step=2, difference=True, **ADJUSTED)
    expected = difference(picture(some["picture"]), picture(none["picture"]))
    np.testing.assert_array_equal(pixels(picture(some["difference"])), pixels(expected))
    assert pixels(expected).std() > 1


def test_the_round_trip_is_that_of_the_encoder(tab: Tab, exhibit: Exhibit) -> None:
    tab.ask("face")
    found = tab.ask("again", step=1.0, kind="coefficient", layers="all")
    assert found["asked"] == pytest.approx(1, abs=1e-3)
    assert found["found"] is not None
    assert 0.8 < found["identity"] <= 1


def test_a_photograph_is_embedded_as_the_study_was(tab: Tab, exhibit: Exhibit) -> None:
    names, person = tab.upload(encoded(FACE, "PNG"))
    assert names[0] == "waiting"
    assert {"progress", "done"} <= set(names)
    expected = beginning(FACE, exhibit.generator, exhibit.attribute.origin)
    answer = tab.client.post(
        "/api/download", headers=tab.head, json={"what": "latent", "step": 1, **ADJUSTED}
    )
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["start"], expected.w_plus.numpy())
        np.testing.assert_allclose(
            kept["edited"] - kept["start"], exhibit.attribute.direction("adjusted"), atol=1e-5
        )
    assert {"lpips", "mse", "identity"} <= set(person["quality"])
    assert person["photo"] != person["drawn"]


def test_a_sideways_photograph_is_turned_upright(tab: Tab) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _, plain = tab.upload(encoded(FACE, quality=95))
    _, turned = tab.upload(encoded(FACE.transpose(Image.Transpose.ROTATE_90), quality=95, exif=exif))
    change = np.abs(pixels(picture(plain["photo"])).astype(int) - pixels(picture(turned["photo"])))
    assert change.mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_every_kind_of_photograph_is_read(tab: Tab, kind: str) -> None:
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    assert tab.upload(encoded(FACE, kind))[0][-1] == "done"


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it has side × side pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(64))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"Dear colleague,\n" * 50, "not a picture"), (b"", "empty"), (b"%PDF-1.7\n", "a PDF document"),
     (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"), (encoded(FACE)[:3000], "truncated or damaged"),
     (bomb(20_000), "decompression bomb"), (encoded(Image.new("RGB", (400, 400), "grey")), "no face found"),
     (encoded(Image.new("RGB", (8, 8))), "at least 16")],
    ids=["text", "empty", "pdf", "svg", "truncated", "bomb", "faceless", "tiny"],
)  # fmt: skip
def test_what_is_no_photograph_is_said_in_words(tab: Tab, data: bytes, words: str) -> None:
    tab.ask("face")
    names, last = tab.upload(data)
    assert names[-1] == "fault"
    assert words in last["text"]
    assert not any(word in last["text"] for word in ("Traceback", "Error", "--aligned", "/"))
    assert tab.ask("edit", step=0, **ADJUSTED)["usual"]  # the face that was there stays


def test_further_faces_are_told(tab: Tab) -> None:
    crowd = Image.new("RGB", (1200, 400), (120, 130, 140))
    for k in range(3):
        crowd.paste(draw_face(400), (400 * k, 0))
    _, last = tab.upload(encoded(crowd, "PNG"))
    assert "3 faces were found" in last["said"]


def test_tabs_do_not_see_each_other(client: TestClient) -> None:
    one, two = Tab(client), Tab(client)
    one.ask("face", seed=1)
    answer = client.post("/api/edit", headers=two.head, json={"step": 0, **ADJUSTED})
    assert (answer.status_code, answer.json()["text"][:15]) == (400, "This tab shows ")
    two.ask("face", seed=2)
    assert one.ask("edit", step=0, **ADJUSTED)["picture"] != two.ask("edit", step=0, **ADJUSTED)["picture"]


def test_one_picture_is_in_work_at_a_time(desk: Desk, tab: Tab) -> None:
    mine = desk.tabs.open[tab.head["x-tab"]]
    stop = mine.begin()
    answer = tab.client.post("/api/photograph", headers=tab.head, content=encoded(FACE))
    assert answer.status_code == 409
    stop.set()
    assert tab.upload(encoded(FACE))[0][-1] == "done"
    assert desk.held == 0


def test_many_uploads_at_once_are_put_off(desk: Desk, tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "held", 4)
    answer = tab.client.post("/api/photograph", headers=tab.head, content=encoded(FACE))
    assert answer.status_code == 503
    assert "try again" in answer.json()["text"]


@pytest.mark.parametrize(
    ("name", "given"),
    [("edit", {"step": 4, **ADJUSTED}), ("edit", {"step": "1", **ADJUSTED}), ("edit", {"step": True, **ADJUSTED}),
     ("edit", {"step": float("nan"), **ADJUSTED}), ("edit", {"step": 1, "kind": "__class__"}),
     ("reach", {"kind": "pattern", "layers": "none"}), ("face", {"seed": -1}), ("face", {"seed": "1"}),
     ("download", {"what": "../x", "step": 0, **ADJUSTED})],
)  # fmt: skip
def test_odd_questions_are_refused_in_words(tab: Tab, name: str, given: dict[str, Any]) -> None:
    tab.ask("face")
    answer = tab.client.post(f"/api/{name}", headers=tab.head, content=json.dumps(given))
    assert answer.status_code == 400
    assert "expected" in answer.json()["text"] or "this study has" in answer.json()["text"]


def test_files_to_take_along(tab: Tab) -> None:
    tab.upload(encoded(FACE))
    how = {"step": 1.2, **ADJUSTED}
    files = {
        what: tab.client.post("/api/download", headers=tab.head, json={"what": what, **how}).content
        for what in ("strip", "gif", "shown")
    }
    assert Image.open(io.BytesIO(files["strip"])).width == 6 * 160  # the photograph and five steps
    assert Image.open(io.BytesIO(files["gif"])).n_frames == 32
    record = json.loads(files["shown"])
    assert "not a diagnosis" in record["note"]
    assert record["step"] == 1.2
    assert len(record["survival"]) == len(record["times"])


def test_nothing_is_written(tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: Any, **_given: Any) -> None:
        raise AssertionError("a file is written")

    import tempfile

    for name in ("NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refused)
    monkeypatch.chdir(tmp_path)
    assert tab.upload(encoded(FACE, "PNG"))[0][-1] == "done"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_work_ends_when_nobody_reads_on() -> None:
    stop, ended = threading.Event(), threading.Event()

    def job(progress: Any) -> dict[str, Any]:
        try:
            while True:
                progress(1, 2)
                stop.wait(0.01)
        except Stopped:
            ended.set()
            raise

    events = told(Worker("test"), job, stop)
    async for event in events:
        if event.startswith("event: progress"):
            break
    await events.aclose()  # type: ignore[attr-defined]
    assert ended.wait(5)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_study_and_an_attribute_show_themselves_in_a_notebook(small_study: Path, exhibit: Exhibit) -> None:
    shown = exhibit.study._repr_html_()
    assert "<th>C, photo</th>" in shown
    assert shown.count('type="range"') == 1
    found = exhibit.attribute.show(exhibit.average(), generator=exhibit.generator)
    assert found.webp == (small_study / "slider.webp").read_bytes()


def test_patients_are_shown_only_where_that_is_allowed(
    client: TestClient, tab: Tab, small_study: Path
) -> None:
    assert client.get("/api/study", headers=tab.head).json()["patients"] == []
    name = "S00003"
    refused = client.post("/api/face", headers=tab.head, json={"photo_id": name})
    assert (refused.status_code, "--faces" in refused.json()["text"]) == (400, True)
    open_desk = Desk(small_study, Door.new("127.0.0.1", 8000), small_study / "cohort" / "chips")
    with TestClient(make_app(open_desk), base_url=f"http://{HOST}") as browser:
        browser.get(f"/?token={open_desk.door.token}")
        mine = Tab(browser)
        names = browser.get("/api/study", headers=mine.head).json()["patients"]
        assert name in names
        shown = mine.ask("face", photo_id=name)
        stored = np.asarray(Image.open(small_study / "cohort" / "chips" / f"{name}.png"))
        assert picture(shown["photo"]).size == stored.shape[:2]
        for other in ("../" + name, "nobody", 7):
            answer = browser.post("/api/face", headers=mine.head, json={"photo_id": other})
            assert answer.status_code == 400
