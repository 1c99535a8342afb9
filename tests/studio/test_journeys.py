"""What people do in the studio, from the first click to the last, in Chromium."""

import numpy as np
import pytest
from page import NEEDS, ask_for, choose, download, drop, make, samples, serve, until

pytestmark = NEEDS
SLIDE = "(slider, values) => values.forEach((value) => { slider.value = value; slider.dispatchEvent(new Event('input')) })"
SETTLED = "!player.busy && player.record && player.take.edits"
# The middle of a note of the score, in the page; null where it is not in view.
NOTE = """(second) => {
    const { player } = window.vqwave, { picture, take, score } = player;
    player.dirty = true;
    player.draw();
    picture.scrollIntoView({ block: "center" });
    const [begin, seconds, midi] = score.find(([begin, , midi]) => begin >= second && midi > take.lowest);
    const { left, top } = picture.getBoundingClientRect();
    const across = Array.from({ length: picture.clientWidth }, (_, x) => x).find((x) => player.secondAt(x) >= begin + seconds / 2);
    return [left + across, top + picture.clientHeight * (1 - (2 * (midi - take.lowest) + 0.5) / take.bands), midi];
}"""


@pytest.fixture(scope="module")
def address(led_weights, tmp_path_factory):
    """The address of a studio whose weights have a score."""
    with serve(led_weights, tmp_path_factory.mktemp("journeys")) as (_, address):
        yield address


def test_play_and_steer(open_page, address):
    page = open_page(at=address, viewport={"width": 390, "height": 844})
    page.locator("#play").click()
    until(page, "sound?.playing && player.beats.tempo")
    tempo, wild = page.locator("[aria-label=Tempo]"), page.locator("#wild")
    for slider, values in ((wild, [0.5]), (tempo, [120, 140])):  # quick changes of a control are one step
        with page.expect_response(lambda r: r.url.endswith("/set") and str(values[-1]) in r.request.post_data):  # noqa: B023
            slider.evaluate(SLIDE, values)
    assert page.evaluate("() => window.vqwave.player.values") == {"wild": 0.5, "tempo": 140}
    for key, values in (("Control+z", ["0.5", 0]), ("Control+z", ["0", 0]), ("Control+Shift+z", ["0.5", 0])):
        page.keyboard.press(key)
        assert [wild.input_value(), page.evaluate("() => window.vqwave.player.values.tempo")] == values
    page.locator("#jump").click()
    page.wait_for_function("() => window.vqwave.player.marks.length === 1")
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    page.locator("#stop").click()
    page.locator("#takes li").wait_for()
    page.locator("#play").click()
    until(page, "sound.playing")


def test_edit_and_share(open_page, address):
    page = open_page(at=address, permissions=["clipboard-read", "clipboard-write"])
    ask_for(page, seconds=4, seed=3)
    make(page)
    until(page, "player.record")
    first = samples(download(page, "wav")[1])
    page.locator("#stop").click()
    page.locator("#edit").click()
    across, down, midi = page.evaluate(NOTE, 1.0)
    page.mouse.click(across, down)
    until(page, f"{SETTLED}.removed?.[0]?.[1] === {midi}")
    # The bar that is heard gets other notes, and repeats.
    page.locator("#bar-here").click()
    page.locator("#loop").click()
    page.locator("#redraw").click()
    until(page, f"{SETTLED}.redrawn?.length === 1 && sound.playing && sound.loop")
    turned = page.evaluate("() => { const { sound } = window.vqwave.player; return [sound.loop[0], sound.wrap(sound.loop[1])] }")
    assert turned[0] == turned[1]
    page.keyboard.press("Control+z")
    until(page, f"{SETTLED}.removed && !player.take.edits.redrawn?.length")
    page.keyboard.press("Control+Shift+z")
    until(page, f"{SETTLED}.redrawn?.length === 1")
    assert page.locator("#takes li").count() == 1, "an edit is saved with its take"
    page.locator("#loop").click()
    until(page, "!sound.loop")
    edited = samples(download(page, "wav")[1])
    assert len(edited) == len(first) and (edited != first).any()
    page.locator("#share").click()
    page.get_by_text("Copied").wait_for()
    page.goto(page.evaluate("() => navigator.clipboard.readText()"))
    page.get_by_text("This link holds a piece: press Play to hear it.").wait_for()
    page.locator("#play").click()
    until(page, "player.record")
    assert page.evaluate("() => window.vqwave.player.take.title").endswith(", edited")
    np.testing.assert_array_equal(samples(download(page, "wav")[1]), edited)


def test_continue_a_recording(open_page, address, song):
    page = open_page(at=address)
    ask_for(page, seconds=4, seed=2)
    choose(page, "mode", "continue")
    drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
    make(page)
    until(page, "player.record && player.take.prompt")
    assert page.evaluate("() => window.vqwave.player.take.title") == "my song, continued"
    first = page.evaluate("() => window.vqwave.player.take.id")
    page.locator("#onward").click()
    until(page, f"player.take.id !== '{first}' && sound.playing && sound.position >= player.take.prompt")
    page.locator("#stop").click()
    until(page, "player.record")
    assert page.evaluate("() => window.vqwave.player.take.title") == "my song, continued"
    assert page.locator("#takes li").count() == 2
