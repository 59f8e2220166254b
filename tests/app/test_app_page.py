"""The page in a real browser: upload a file, move a slider, send what nobody should."""

import json
import re
import signal
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from pipeline.checkpoint.load import load_run
from pipeline.cli.main import run as run_command
from pipeline.inference.score import score_table

from ..checkpoint.untrained_run import CLASSES, lens_images
from .browser import Browser
from .conftest import Served

ANSWERED = "!!document.querySelector('#score-text .dl-answer')"
REFUSED = "!!document.querySelector('#score-text .dl-bad')"


def put(browser: Browser, path: Path) -> str:
    """Upload a file in place of the last one; return what the page says of it."""
    browser.click("[role=tab]", "Score an image")
    if browser.js(f"{ANSWERED} || {REFUSED}"):
        browser.click("#upload button[aria-label=Clear], #upload button[title=Clear]")
        browser.wait("!!document.querySelector('#score-text .dl-hint')")
    browser.wait("!!document.querySelector('#upload input[type=file]')")
    browser.upload("#upload input[type=file]", path, until=f"{ANSWERED} || {REFUSED}")
    return browser.text("#score-text")


def percentages(text: str) -> dict[str, float]:
    found = {name: re.search(rf"{name}\s+([\d.]+) %", text) for name in CLASSES}
    return {name: float(match[1]) for name, match in found.items() if match}


def test_an_uploaded_file_is_answered_as_the_table_of_scores_would(
    browser: Browser, served: Served, lens: Path
) -> None:
    text = put(browser, lens)
    said = percentages(text)
    assert "axion mass" in text and "Novelty" in text
    (row,) = score_table(load_run(served.run), [lens])
    assert said == {name: round(100 * row[f"p_{name}"], 1) for name in CLASSES}
    assert browser.js("document.querySelectorAll('#score-pictures img').length") == 2
    for k in range(2):
        assert browser.js(f"document.querySelectorAll('#score-pictures img')[{k}].naturalWidth") > 0


def test_a_moved_slider_shows_another_lens_and_all_that_follows_from_it(browser: Browser) -> None:
    browser.click("[role=tab]", "Simulate a lens")
    browser.wait("!!document.querySelector('#live-detectability dd')")
    browser.wait("!!document.querySelector('#live-text .dl-answer')")
    state = (
        "[...document.querySelectorAll('#live-pictures img, #live-saliency img')].map(i => i.src)"
        ".concat((document.querySelector('#live-detectability dd') || {}).innerText)"
    )
    before = browser.js(state)
    assert len(before) == 4 and all(before)
    browser.press("#scenes-macro-theta_E input[type=range]", "ArrowRight", 39, times=3)
    browser.wait(f"(now => {json.dumps(before)}.every((b, i) => now[i] && now[i] !== b))({state})")


def test_a_page_that_nobody_touches_asks_the_server_nothing(browser: Browser) -> None:
    """Several events of one trigger, each repeated for the last value, once went on for ever."""
    browser.click("[role=tab]", "Simulate a lens")
    browser.press("#scenes-macro-theta_E input[type=range]", "ArrowRight", 39, times=4)
    for _ in range(20):  # until the answers to those are there
        asked = len(browser.requests)
        time.sleep(1.5)
        browser.js("1")  # takes in what the browser reports
        if len(browser.requests) == asked:
            return
    pytest.fail(f"still asking: {browser.requests[-3:]}")


def test_without_substructure_nothing_differs_from_the_smooth_twin(browser: Browser) -> None:
    browser.click("[role=tab]", "Simulate a lens")
    browser.click("#class label", "no")
    browser.wait("document.querySelector('#live-pictures').innerText.includes('no difference')")
    browser.wait("document.querySelector('#live-detectability').innerText.includes('d′ = 0')")


def hostile(folder: Path) -> dict[str, bytes]:
    """Files that nobody should send, by name; the word after the dash is in the answer."""
    import io

    from PIL import Image

    def as_fits(data: np.ndarray) -> bytes:
        stream = io.BytesIO()
        fits.PrimaryHDU(data, fits.Header({"PIXSCALE": 0.05})).writeto(stream)
        return stream.getvalue()

    good = as_fits(lens_images(1, 5)[0, 0])
    cards = [b"SIMPLE  =                    T", b"BITPIX  =                  -64",
             b"NAXIS   =                    2", b"NAXIS1  =               999999",
             b"NAXIS2  =               999999", b"END"]  # fmt: skip
    clear = io.BytesIO()
    Image.fromarray(np.full((64, 64, 4), 100, np.uint8), "RGBA").save(clear, "PNG")
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    return {
        "text.fits": b"dear astronomer, this is no image " * 200,
        "nan.fits": as_fits(np.full((40, 40), np.nan, np.float32)),
        "short.fits": good[:4000],
        "claim.fits": b"".join(card.ljust(80) for card in cards).ljust(2880),
        "clear.png": clear.getvalue(),
        "broken.png": clear.getvalue()[:60],
        "pickled.npy": pickled.getvalue(),
        "<img src=x onerror=alert(1)>.fits": b"",
    }


def test_hostile_uploads_get_a_message_and_the_server_stays_up(
    browser: Browser, lens: Path, tmp_path: Path
) -> None:
    for name, content in hostile(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        said = put(browser, path)
        assert said.startswith("No score: "), (name, said)
        assert len(said) > 25, (name, said)
    assert "transparency" in put(browser, tmp_path / "clear.png")
    assert percentages(put(browser, lens))
    assert browser.errors == []


def test_an_upload_of_500_megabytes_is_refused_before_it_is_read(
    browser: Browser, served: Served, lens: Path, tmp_path: Path
) -> None:
    huge = tmp_path / "huge.fits"
    with huge.open("wb") as stream:
        stream.truncate(500 * 2**20)
    put(browser, lens)
    browser.click("#upload button[aria-label=Clear], #upload button[title=Clear]")
    browser.wait("!!document.querySelector('#upload input[type=file]')")
    refused = "/exceeds|exceeded|maximum allowed|too large/i.test(document.body.innerText)"
    browser.upload("#upload input[type=file]", huge, until=refused)
    browser.open(served.url)
    browser.wait("!!document.querySelector('#upload input[type=file]')")
    assert percentages(put(browser, lens))


@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int) -> None:
    browser.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
        mobile=False,
    )  # fmt: skip
    try:
        for tab in ("Simulate a lens", "Score an image"):
            browser.click("[role=tab]", tab)
            assert browser.js("document.documentElement.scrollWidth") <= width
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")


def call(served: Served, name: str, data: list[object]) -> str:
    """Call the page's interface without the page; return the event stream."""
    address = f"{served.url}/gradio_api/call/{name}"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps({"data": data}).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}", timeout=120) as stream:
        return stream.read().decode()


def test_a_file_of_the_server_cannot_be_scored(served: Served) -> None:
    secret = str(served.run / "checkpoint.json")
    said = call(served, "score", [{"path": secret, "meta": {"_type": "gradio.FileData"}}])
    assert said.startswith("event: error")
    assert "No score" not in said


def test_sliders_take_numbers_only(served: Served) -> None:
    with urllib.request.urlopen(f"{served.url}/gradio_api/info", timeout=60) as answer:
        inputs = json.load(answer)["named_endpoints"]["/picture"]["parameters"]
    values = [one["parameter_default"] for one in inputs]
    assert "data:image/png" in call(served, "picture", values)
    values[3] = "1.0}; scenes: {"
    assert "data:image/png" not in call(served, "picture", values)


def test_nothing_asks_another_machine(browser: Browser, served: Served) -> None:
    assert {url.split("/")[2] for url in browser.requests if url.startswith(("http", "ws"))} == {
        served.url.split("/")[2]
    }
    with pytest.raises(BlockingIOError):
        served.outside.accept()


def test_a_port_in_use_and_a_folder_that_is_no_run_are_refused_at_once(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = served.url.rpartition(":")[2]
    assert run_command(["app", str(served.run), "--port", port, "--no-open"]) == 2
    assert f"--port {port}: cannot listen" in capsys.readouterr().err
    assert run_command(["app", str(tmp_path), "--no-open"]) == 1
    assert "not a run folder" in capsys.readouterr().err


def test_ctrl_c_ends_the_page_and_leaves_no_upload_behind(served: Served) -> None:
    assert list(served.uploads.glob("deeplense-app-*"))
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(120) == 0
    assert not list(served.uploads.iterdir())
