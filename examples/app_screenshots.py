"""Screenshots of `deeplense app` after real interaction, for the documents.

python examples/app_screenshots.py http://127.0.0.1:7860 lens.fits docs/figures
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.app.browser import Browser

ANSWERED = "!!document.querySelector('#score-text .dl-answer')"
SLIDER = "#scenes-macro-theta_E input[type=range]"


def take(url: str, image: Path, folder: Path) -> None:
    """Upload an image, then move a slider; write a picture of each tab."""
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        try:
            browser.open(url)
            browser.wait("!!document.querySelector('#upload input[type=file]')")
            browser.upload("#upload input[type=file]", image, until=ANSWERED)
            browser.screenshot(folder / "app_score.png")
            browser.click("[role=tab]", "Simulate a lens")
            browser.wait("!!document.querySelector('#live-text .dl-answer')")
            browser.wait("!!document.querySelector('#live-detectability dd')")
            picture = "document.querySelector('#live-pictures img').src"
            before = browser.js(picture)
            browser.press(SLIDER, "ArrowRight", 39)
            browser.wait(f"{picture} !== {before!r}")
            browser.screenshot(folder / "app_simulate.png")
        finally:
            browser.close()


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
