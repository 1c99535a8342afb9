"""Takes the pictures of docs/studio.md, of the weights that ship: python tests/studio/screenshots.py

Needs Chromium and playwright.
"""

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
COLOURS = 256


def opened(browser, address, width, height, scale=1, theme="dark"):
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=theme)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_function("() => window.vqwave")
    return page


def save(page, name):
    """A picture of what the window shows, in few colours."""
    path = ROOT / "docs" / name
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def music(browser, address, name, *size):
    """A piece that plays, after some seconds."""
    page = opened(browser, f"{address}/?seed={SEED}&seconds=endless", *size)
    page.locator("#more").evaluate("one => { one.open = false }")
    page.locator("#play").click()
    until(page, f"sound?.position > {SECONDS * RATE}")
    save(page, name)
    page.close(run_before_unload=False)


def codecs(browser, address, name, *size):
    """A clip through the codecs, light."""
    page = opened(browser, address, *size, theme="light")
    page.get_by_role("tab", name="Codecs").click()
    page.locator("#codec-recording .clip").first.click()
    page.wait_for_function("() => window.vqwave.codecs.complete")
    page.evaluate("() => document.activeElement.blur()")
    save(page, name)
    page.close()


def main():
    with (tempfile.TemporaryDirectory() as folder, serve(SHIPPED, Path(folder)) as (_, address),
          sync_playwright() as playwright):
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        music(browser, address, "studio.png", 1400, 900)
        music(browser, address, "studio-390.png", 390, 844, 2)
        codecs(browser, address, "studio-1920.png", 1920, 1080)
        browser.close()


if __name__ == "__main__":
    main()
