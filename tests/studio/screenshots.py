"""Takes the pictures and the clip of docs/studio.md and README.md: python tests/studio/screenshots.py

Needs Chromium and playwright.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
sys.path[:0] = map(str, (ROOT / "lib", ROOT / "tests", Path(__file__).parent))

from page import CHROMIUM, PATIENCE, serve, until  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

SEED, SECONDS, RATE = 1, 9, 22050
SHIPPED = SimpleNamespace(codecs=ROOT / "final_weights", generators=ROOT / "weights")
QUALITY, QUALITY_OF_CLIP = 80, 40
CLIP, PICTURES = 6.0, 50  # seconds of the clip, and its pictures


def opened(browser, address, width, height, scale=1, theme="dark"):
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=theme)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_function("() => window.vqwave")
    return page


def save(page, name):
    """A picture of what the window shows."""
    page.mouse.move(0, 0)
    write(name, [picture(page)])


def picture(page):
    return Image.open(io.BytesIO(page.screenshot()))


def write(name, pictures, quality=QUALITY, **options):
    path = ROOT / "docs" / name
    pictures[0].convert("RGB").save(path, quality=quality, method=6, **options)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def playing(browser, address, *size):
    """The page with a piece that has played for some seconds."""
    page = opened(browser, f"{address}/?seed={SEED}&seconds=endless", *size)
    page.get_by_text("This link holds a piece").wait_for()
    page.locator("#more").evaluate("one => { one.open = false }")
    page.evaluate("() => { window.vqwave.player.slow = true }")  # longer blocks: no gaps on a busy machine
    page.locator("#play").click()
    until(page, f"sound?.position > {SECONDS * RATE}")
    return page


def music(browser, address, name, *size):
    page = playing(browser, address, *size)
    save(page, name)
    page.close(run_before_unload=False)


def clip(browser, address, name, *size):
    """Some seconds of a piece that plays, over and over."""
    page, seen = playing(browser, address, *size), []
    page.evaluate("() => scrollTo(0, 0)")
    session = page.context.new_cdp_session(page)
    session.on("Page.screencastFrame", lambda shot: seen.append(shot))
    session.send("Page.startScreencast", {"format": "png"})
    pictures = {}  # by time
    while not pictures or max(pictures) - min(pictures) < CLIP:
        page.wait_for_timeout(20)
        for shot in seen:
            session.send("Page.screencastFrameAck", {"sessionId": shot["sessionId"]})
            pictures[shot["metadata"]["timestamp"]] = Image.open(io.BytesIO(base64.b64decode(shot["data"])))
        seen.clear()
    page.close(run_before_unload=False)
    first, rate = min(pictures), PICTURES / CLIP
    chosen = [pictures[max(t for t in pictures if t <= first + i / rate)] for i in range(PICTURES)]
    write(name, chosen, QUALITY_OF_CLIP, save_all=True, append_images=chosen[1:], duration=round(1000 / rate), loop=0)


def codecs(browser, address, name, *size):
    """A clip through the codecs, light."""
    page = opened(browser, address, *size, theme="light")
    page.get_by_role("link", name="Codecs").click()
    page.locator("#codec-recording .clip").first.click()
    page.wait_for_function("() => window.vqwave.codecs.complete")
    page.evaluate("() => document.activeElement.blur()")
    save(page, name)
    page.close()


def main():
    with (tempfile.TemporaryDirectory() as folder, serve(SHIPPED, Path(folder)) as (_, address),
          sync_playwright() as playwright):
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        clip(browser, address, "playing.webp", 900, 700)
        music(browser, address, "studio.webp", 1400, 900)
        music(browser, address, "studio-390.webp", 390, 844, 2)
        codecs(browser, address, "studio-1920.webp", 1920, 1080)
        browser.close()


if __name__ == "__main__":
    main()
