"""The report of a training, in a phone's window."""

from page import NEEDS
from prepared import music

from vqwave.report import folder_page

pytestmark = NEEDS
FIGURES = {"pause": 0.0, "pause_peak_db": None, "end_db": -20.0, "loudness_db": [-20.0], "clipped": 0.0}


def test_the_verdict_comes_first_the_clips_play_and_nothing_is_wider_than_a_phone(browser, tmp_path):
    codec = {"model": "vqvae_512", "suitable": True, "shortfall": "", "notes": 0.9, "mel": 0.3, "distance": None}
    results = folder_page.Results(
        9, 0.5, 1, 0.1, 22050, 512, codecs=[codec], health=FIGURES, advice=["Listen."], copies=[],
        clarity={"contrast": 3.4}, pieces={1: music(3.0, 1), 2: music(3.0, 2)}, continuation=music(3.0, 3),
        original=music(3.0, 4), distance={"generated": 11.0, "training": 10.0, "seconds": 60.0})
    folder_page.write(results, tmp_path / "report.html", "mine")
    errors = []
    for theme in ("dark", "light"):
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=theme)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "report.html").as_uri())
        verdict, clips = page.locator(".verdict"), page.locator(".clips").first
        assert verdict.inner_text().startswith("On pieces of yours that it has never heard, it keeps 90% of the notes")
        assert verdict.bounding_box()["y"] < clips.bounding_box()["y"] < page.locator("table").first.bounding_box()["y"]
        assert clips.locator("audio").count() == 3
        page.wait_for_function("() => [...document.querySelectorAll('audio')].every(({ duration }) => Math.abs(duration - 3) < 0.2)")
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390
        assert page.evaluate("() => document.documentElement.dataset.theme") == theme
        assert page.locator("img").evaluate_all("all => all.every(({ naturalWidth }) => naturalWidth > 50)")
        page.close()
    assert not errors
