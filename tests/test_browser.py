"""The documentation in a browser: pages load, say nothing on the console, and are found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.helpers.limits import SECONDS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("site")]

webdriver = pytest.importorskip("selenium.webdriver")
waiting = pytest.importorskip("selenium.webdriver.support.wait")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
# Whether the page has more than fits from side to side.
OVERFLOWS = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not log to the test's output."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Of the site, served on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window. Where it is not installed tests are skipped, in CI they fail."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        reason = f"needs chromedriver and one of {', '.join(BROWSERS)}: see `make browser`"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options, webdriver.ChromeService(driver))
    chromium.set_page_load_timeout(SECONDS)
    yield chromium
    chromium.quit()


def messages(browser: Any) -> list[str]:
    """What pages wrote to the console since the last look, not found files included."""
    return [entry["message"] for entry in browser.get_log("browser")]


def test_every_page_loads_and_is_silent_on_the_console(
    browser: Any, address: str, site: Path
) -> None:
    pages = sorted(page.relative_to(site).as_posix() for page in site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        browser.get(f"{address}/{page}")
        assert "snnmetrics" in browser.title, page
        assert browser.find_elements("css selector", "article"), page
        assert messages(browser) == [], page


def test_a_fault_on_a_page_is_seen(browser: Any, address: str) -> None:
    """So that the test above can fail."""
    browser.get(f"{address}/index.html")
    browser.execute_script("console.error('a fault')")
    assert "a fault" in messages(browser)[0]
    browser.execute_script("document.body.append(Object.assign(new Image(), {src: 'nowhere.png'}))")
    found = waiting.WebDriverWait(browser, SECONDS).until(messages)
    assert "nowhere.png" in found[0]
    assert "404" in found[0]


def test_the_search_leads_to_synops(browser: Any, address: str) -> None:
    browser.get(f"{address}/index.html")
    box = browser.find_element("css selector", "input[name=q]")
    box.send_keys("SynOps")
    box.submit()
    wait = waiting.WebDriverWait(browser, SECONDS)
    found = "ul.search li a[href$='#snnmetrics.SynOps']"
    link = wait.until(lambda page: page.find_element("css selector", found))
    # The address instead of a click: summaries that load meanwhile move the links.
    browser.get(link.get_attribute("href"))
    entry = browser.find_element("id", "snnmetrics.SynOps")
    assert "fanout" in entry.text
    assert messages(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Any, address: str, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(f"{address}/explanation/synops.html")
    style = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    text, background = (brightness(colour) for colour in browser.execute_script(style))
    assert (background > 0.8) if scheme == "light" else (background < 0.2)
    assert abs(text - background) > 0.6


def brightness(colour: str) -> float:
    """From 0, black, to 1, white, of ``rgb(r, g, b)`` or ``rgba(...)``."""
    numbers = colour.partition("(")[2].rstrip(")").split(",")
    return sum(map(float, numbers[:3])) / (3 * 255)


@pytest.mark.parametrize("width", [390, 1440, 1664])  # a telephone; with sidebars; wide
def test_no_page_is_wider_than_the_window(
    browser: Any, address: str, site: Path, width: int
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for page in sorted(site.rglob("*.html")):
        browser.get(f"{address}/{page.relative_to(site).as_posix()}")
        assert not browser.execute_script(OVERFLOWS), page.name
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
