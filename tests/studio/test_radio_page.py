"""The radio's page in Chromium. Its own file: playwright occupies the event loop that other tests of the radio need."""

import pytest
from page import NEEDS, PATIENCE
from test_radio import Running

from vqwave.studio import names

pytestmark = [*NEEDS, pytest.mark.large]


def test_the_page_names_each_station_gives_its_address_and_plays_it(browser):
    page, errors = browser.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    with Running() as running:
        page.goto(f"http://127.0.0.1:{running.port}/")
        name = names.piece_name(9)
        page.get_by_text("Addresses for other players").nth(1).click()
        address = page.get_by_label(f"Address of {name} as MP3")
        address.wait_for()
        assert address.input_value() == f"http://127.0.0.1:{running.port}/2.mp3"
        assert page.get_by_text("tiny/weights · seed 7 · piece 2 · label calm · 0 listeners").count() == 1
        page.get_by_label(f"Play {name}").click()
        page.wait_for_function("() => document.querySelectorAll('audio')[1].currentTime > 0.3")
        assert running.listeners == 1
        page.get_by_label(f"Stop {name}").click()
        page.get_by_text("label calm · 0 listeners").wait_for()
        page.close()
    assert not errors
