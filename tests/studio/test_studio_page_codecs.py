"""The studio's page in Chromium: recordings, codecs, how the page looks, and who can reach its controls."""

from pathlib import Path

import numpy as np
import pytest
from page import (
    AXE,
    NEEDS,
    NEEDS_AXE,
    PATIENCE,
    RATE,
    ask_for,
    choose,
    drop,
    make,
    open_codes,
    samples,
    until,
)

from vqwave.presets import load_preset

pytestmark = [*NEEDS, pytest.mark.large]
CHAIN = load_preset("tiny").chain


def test_a_clip_is_seen_cut_by_dragging_heard_and_continued(open_page):
    page = open_page()
    ask_for(page, seconds=6)
    choose(page, "mode", "continue")
    page.locator("#form .clip").first.click()
    page.get_by_text("Love Theme (Ryan Reilly): 0:30 long, ready.").wait_for()
    canvas = page.locator("#form .seen canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 20, steps=5)
    page.mouse.up()
    assert float(page.locator("#play-start").input_value()) == pytest.approx(15, abs=0.2)
    assert float(page.locator("#play-seconds").input_value()) == pytest.approx(3, abs=0.2)
    page.locator("#play-hear").evaluate("audio => audio.play()")
    page.wait_for_function("() => document.querySelector('#play-hear').currentTime > 0")
    make(page)
    assert page.locator("#play-hear").evaluate("audio => audio.paused"), "only one sound plays"
    assert page.evaluate("() => window.vqwave.player.take.prompt") == pytest.approx(3 * RATE, abs=0.3 * RATE)


def test_the_codecs_play_at_once_side_by_side_with_their_figures_and_words(open_page, song):
    page = open_page()
    page.get_by_role("link", name="Codecs").click()
    with page.expect_request(lambda r: r.url.endswith("/comparisons")) as request:
        drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
    assert request.value.post_data_json["weights"] == page.locator("#weights").input_value()
    assert page.url.endswith("/#codecs"), "the address names the page"
    page.wait_for_function("() => window.vqwave.codecs.complete")
    assert page.locator("#codec-stage tbody tr").count() == 5
    numbers = [float(x) for x in page.locator("#codec-stage tbody tr td:nth-child(3)").all_inner_texts() if x]
    np.testing.assert_allclose(numbers, [22.05 / level * 6 for level in CHAIN.sizes], atol=0.01)
    before = page.evaluate("() => window.vqwave.codecs.now")
    page.get_by_role("button", name="32x", exact=True).click()
    assert page.get_by_role("button", name="32x", exact=True).get_attribute("aria-pressed") == "true"
    page.wait_for_function(f"() => window.vqwave.codecs.now > {before} + 0.3 || !window.vqwave.codecs.nodes")
    assert page.locator(".compared canvas").count() == 9
    verdicts = page.locator("#codec-stage tbody td.words").all_inner_texts()
    assert verdicts[0] == "" and all(words.endswith(".") for words in verdicts[1:])
    with page.expect_download() as started:
        page.locator("#codec-stage tbody tr a").last.click()
    assert abs(len(samples(Path(started.value.path()).read_bytes())) / RATE - 2.0) < 0.1


def test_the_theme_is_that_of_the_system_until_another_is_chosen(open_page):
    page = open_page(color_scheme="light")

    def seen():
        return page.evaluate("""() => [document.documentElement.dataset.theme,
            document.querySelector("#picture").getContext("2d").getImageData(2, 2, 1, 1).data[0] > 128]""")

    assert seen() == ["light", True]
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert seen() == ["dark", False]
    page.get_by_role("button", name="Light").click()
    page.reload()
    page.wait_for_function("() => window.vqwave")
    assert seen()[0] == "light"


def test_the_page_obeys_its_own_policy(browser, url):
    context = browser.new_context()
    page = context.new_page()
    console = []
    page.on("console", lambda message: console.append(message.text))
    page.goto(url)
    page.locator("#form fieldset").first.wait_for(state="attached")
    page.locator("#play").click()
    page.locator("#play.going").wait_for(timeout=PATIENCE)
    assert console == []
    context.close()


@NEEDS_AXE
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_no_barriers(open_page, song, theme):
    page = open_page(color_scheme=theme)
    page.add_script_tag(path=AXE)

    def barriers():
        return page.evaluate("""async () => {
            const { violations } = await axe.run(document, { resultTypes: ["violations"] });
            return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
                .map(({ id, nodes }) => [id, nodes.map((node) => node.html.slice(0, 150) + node.failureSummary)]);
        }""")

    assert barriers() == []
    ask_for(page, seconds=2)
    choose(page, "mode", "continue")
    drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
    choose(page, "mode", "vary")
    page.evaluate("() => document.querySelectorAll('#more details').forEach((details) => { details.open = true })")
    assert barriers() == []
    choose(page, "mode", "new")
    make(page)
    until(page, "player.record")
    open_codes(page)
    page.locator("#takes summary").click()
    assert barriers() == []
    page.get_by_role("link", name="Codecs").click()
    drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
    page.wait_for_function("() => window.vqwave.codecs.complete")
    assert barriers() == []
