import re
from pathlib import Path

import numpy as np
import pytest
from page import (
    HEARD,
    NEEDS,
    RATE,
    ask_for,
    choose,
    download,
    drop,
    make,
    open_codes,
    painted,
    samples,
    serve,
    until,
)

from vqwave.presets import load_preset

pytestmark = [*NEEDS, pytest.mark.large]
CHAIN = load_preset("tiny").chain


def test_playback_and_downloads_equal_the_take_sample_by_sample(open_page):
    page = open_page()
    ask_for(page, level=8, seconds=4, seed=7)
    make(page)
    open_codes(page)
    page.wait_for_function("() => window.listening")
    # While it plays, sound advances as time does.
    first, at = page.evaluate("() => [window.vqwave.player.sound.position, performance.now()]")
    until(page, f"sound.position >= {first + RATE}")
    took = page.evaluate("() => performance.now()") - at
    until(page, "player.record && sound.over")
    page.wait_for_timeout(300)  # the last samples are on their way
    page.evaluate("() => { window.heard = [] }")
    page.locator("#play").click()  # again: now the worklet hears the first sample too
    until(page, "sound.over")
    gaps = page.evaluate("() => window.vqwave.player.sound.gaps")
    page.wait_for_timeout(300)  # the last samples are on their way
    heard = np.array(page.evaluate(HEARD), np.int16)
    name, wav = download(page, "wav")
    piece = samples(wav)
    assert len(piece) == 4 * RATE and name == "vqwave-seed-7-4.0s.wav"
    np.testing.assert_array_equal(heard[heard != 0], piece[piece != 0])
    if not gaps:
        start = np.flatnonzero(heard)[0] - np.flatnonzero(piece)[0]
        np.testing.assert_array_equal(heard[start : start + len(piece)], piece)
        assert 800 < took < 2500
    np.testing.assert_array_equal(samples(download(page, "flac")[1]), piece)
    name, score = download(page, "mid")
    assert name == "vqwave-seed-7-4.0s.mid" and score.startswith(b"MThd")
    # All pictures share one time axis.
    sides = page.evaluate("""() => [...document.querySelectorAll("#picture, .codes canvas")].map((canvas) => {
        const { left, right } = canvas.getBoundingClientRect();
        return [left, right];
    })""")
    assert len(sides) == 1 + len(CHAIN.sizes) and all(side == sides[0] for side in sides)
    assert painted(page, "#picture")[1] > 50
    for level in CHAIN.sizes:
        share, colours = painted(page, f".codes-{level} canvas")
        assert share > 0.3 and colours > 5, level


def test_a_reload_asks_first_and_keeps_the_heard_music(open_page):
    page = open_page()
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.accept()))
    page.locator("#play").click()
    until(page, f"sound?.position > {5.5 * RATE}")
    page.reload()
    assert dialogs == ["beforeunload"]
    entry = page.locator("#takes li")
    entry.wait_for()
    entry.get_by_role("button", name="Play ").click()
    until(page, "sound?.playing && player.record")
    assert page.evaluate("() => window.vqwave.player.record.seconds") > 5


def test_a_take_can_be_played_and_saved_after_the_studio_is_gone(open_page, tiny_weights, tmp_path):
    with serve(tiny_weights, tmp_path) as (process, address):
        page = open_page(at=address, lost=True)
        page.locator("#play").click()
        until(page, f"sound?.position > {RATE}")
        process.kill()
        process.wait()
        page.get_by_role("alert").get_by_text("The studio cannot be reached").wait_for()
        page.get_by_text("made so far can still be heard and saved").wait_for()
        with page.expect_download() as started:
            page.locator("#save").click()
        received = page.evaluate("() => window.vqwave.player.sound.end")
        assert len(samples(Path(started.value.path()).read_bytes())) == received > RATE
        until(page, "sound.over")  # until then, Play would pause what still plays
        page.locator("#play").click()
        until(page, "!sound.paused && !sound.over")


def test_an_mp3_is_varied_and_a_text_file_is_refused(open_page, song, tmp_path):
    page = open_page()
    ask_for(page, level=32, seconds=30, seed=1)
    choose(page, "mode", "vary")
    page.locator("#make").click()
    page.get_by_role("alert").get_by_text("There is no recording yet: drop one in").wait_for()
    (tmp_path / "words.mp3").write_text("This is a letter, not a song.")
    drop(page, "play", tmp_path / "words.mp3", "words.mp3: not audio that can be decoded")
    drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
    assert page.locator("#alert").is_hidden(), "the error is corrected"
    choose(page, "keep", 128)
    # An impossible level is disabled and says why.
    finest = page.locator("#level input[value='512']")
    assert finest.is_disabled() and "nothing would be left" in finest.locator("..").get_attribute("title")
    make(page)
    until(page, "player.record")
    piece = samples(download(page, "wav")[1])
    assert abs(len(piece) / RATE - 2.0) < 0.1
    open_codes(page)
    assert "kept from the recording" in page.locator(".codes-128").inner_text()
    page.wait_for_function("() => document.querySelector('.codes-32').innerText.includes('bits a frame')")
    assert page.locator(".codes-512").count() == 0
    assert "--variation-of 'my song.mp3' --keep 128" in page.locator("#takes .command").inner_text()


def test_the_form_sets_the_first_tempo_and_key_of_a_score(open_page, led_weights, tmp_path):
    with serve(led_weights, tmp_path) as (_, address):
        page = open_page(at=address)
        ask_for(page, seed=3)
        page.locator("#tempo").fill("3")
        page.locator("#make").click()
        page.get_by_role("alert").get_by_text("tempo is 3.0; it must be 0 or a number from 30 to 200").wait_for()
        page.locator("#tempo").fill("96")
        page.locator("#key").select_option("D-minor")
        make(page)
        shown = {name: page.locator("#front").get_by_label(name, exact=True) for name in ("Tempo", "Density", "Key")}
        assert {name: field.input_value() for name, field in shown.items()} == {"Tempo": "96", "Density": "1", "Key": "D-minor"}
        until(page, f"sound.position > {RATE}")
        page.locator("#stop").click()
        page.locator("#takes summary").click()
        assert "--tempo 96 --key D-minor --seed 3" in page.locator("#takes .command").inner_text()
        page.locator("#takes a", has_text="Make again in the form").click()
        page.wait_for_function("() => document.querySelector('#seed')?.value")
        assert [page.locator(f"#{name}").input_value() for name in ("tempo", "density", "key")] == ["96", "", "D-minor"]
        page.locator("#die").click()
        until(page, "sound?.playing")
        assert page.evaluate("() => window.vqwave.player.take.controls") == {"tempo": 96, "key": "D-minor"}
        page.locator("#stop").click()
        until(page, "player.record")


def test_stop_cancels_a_continuation_and_the_take_before_it_stays(open_page):
    page = open_page()
    page.locator("#play").click()
    until(page, f"sound?.position > {RATE}")
    first = page.evaluate("() => window.vqwave.player.take.id")
    held = []
    page.route(re.compile("studio/takes$"), lambda route: held.append(route))
    with page.expect_request(re.compile("studio/takes$")):
        page.keyboard.press("c")
    assert page.evaluate("() => window.vqwave.player.live"), "the take goes on until the new one can sound"
    page.keyboard.press("s")
    until(page, "!player.busy && player.record")
    assert held and page.evaluate("() => window.vqwave.player.take.id") == first
    assert page.locator("#alert").is_hidden() and page.locator("#takes li").count() == 1
    page.locator("#play").click()
    until(page, f"sound.playing && sound.position > {RATE / 2}")


def test_takes_are_named_starred_deleted_and_brought_back(open_page):
    page = open_page()
    ask_for(page, seconds=1)
    for count in (1, 2):
        make(page)
        page.locator("#takes li").nth(count - 1).wait_for()
    assert page.locator("#takes li").count() == 2
    page.locator("#takes .name").first.fill("Rain")
    page.locator("#takes .name").first.press("Tab")
    page.get_by_role("button", name="Star Rain").click()
    page.reload()
    assert page.locator("#takes .name").first.input_value() == "Rain"
    star = page.get_by_role("button", name="Star Rain")
    assert star.get_attribute("aria-pressed") == "true"
    page.locator("#takes li").first.locator("summary").click()
    page.locator("#takes li").first.get_by_role("button", name="Delete").click()
    assert page.locator("#takes li").count() == 1
    page.get_by_role("button", name="Undo").click()
    assert page.locator("#takes .name").first.input_value() == "Rain"
    # Two takes play together, and one of them is heard.
    for entry in page.locator("#takes li").all():
        entry.get_by_role("button", name="Compare").click()
    page.locator("#pair .picks button").nth(1).click()
    page.wait_for_function("""() => {
        const { chosen, gains } = window.vqwave.takes.pair;
        return chosen === 1 && (!gains || gains[0].gain.value < 0.1 && gains[1].gain.value > 0.9);
    }""")
    # A download can be faded.
    page.locator("#takes li").first.locator("summary").click()
    page.locator("#takes li").first.locator("[data-finish=fade]").check()
    faded = samples(download(page, "wav")[1])
    assert np.abs(faded[:50].astype(int)).max() < 0.05 * np.abs(faded.astype(int)).max()
