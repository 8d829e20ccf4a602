"""The reports, opened in a browser, can be read on a laptop and on a phone, by day and by night."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ondevice.report import write_report
from ondevice.report_profile import profile_page

LAPTOP, PHONE = 1280, 390

LAYOUT = """
const seen = e => { const b = e.getBoundingClientRect(); return b.width > 0 && b.height > 0; };
const texts = [...document.body.querySelectorAll('*')].filter(e =>
  !e.closest('svg') && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
const root = document.documentElement;
return {
  overflow: root.scrollWidth - root.clientWidth,
  outside: [...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') && seen(e) &&
    e.getBoundingClientRect().right > root.clientWidth + 0.5).map(e => e.outerHTML.slice(0, 200)),
  images: document.images.length,
  charts: document.querySelectorAll('svg').length,
  unseen: [...document.querySelectorAll('img, svg')].filter(e => !seen(e)).map(e => e.outerHTML),
  undecoded: [...document.images].filter(e => !(e.complete && e.naturalWidth > 0)).length,
  smallest: Math.min(...texts.map(e => parseFloat(getComputedStyle(e).fontSize))),
};
"""

# Contrast as WCAG 2 defines it, of every text against the nearest background that is painted.
CONTRAST = """
const rgb = c => c.match(/[\\d.]+/g).map(Number);
const light = c => { const [r, g, b] = rgb(c).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if ((rgb(c)[3] ?? 1) === 1) return c; } return 'rgb(255, 255, 255)'; };
let worst = [99, ''];
for (const e of document.body.querySelectorAll('*')) {
  if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  const rect = e.className === 'tensor-name' ? document.querySelector('rect.peak') : null;
  const behind = rect ? getComputedStyle(rect).fill : ground(e);
  const [a, b] = [light(getComputedStyle(e).color), light(behind)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 200)];
}
return worst;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed; the report cannot be opened in a browser")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield chrome
    chrome.quit()


def show(browser: Any, path: Path, width: int, scheme: str = "light") -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())


def written(kind: str, request: pytest.FixtureRequest, folder: Path) -> Path:
    """Return the page of a session's fixture, of a profile's, or of a memory profile's."""
    drawn_from = request.getfixturevalue(kind)
    page = folder / "report.html"
    if isinstance(drawn_from, Path):
        return write_report(drawn_from, page)
    page.write_text(drawn_from if isinstance(drawn_from, str) else profile_page(*drawn_from))
    return page


# Images and charts.
DRAWN = {
    "finished": (30, 2),
    "awkward": (30, 2),
    "begun": (0, 0),
    "counted": (0, 1),
    "awkward_count": (0, 1),
    "linked": (0, 1),
    "awkward_linked": (0, 1),
}


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
@pytest.mark.parametrize("kind", DRAWN)
def test_a_browser_shows_the_report_whole(
    browser: Any, kind: str, width: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    show(browser, written(kind, request, tmp_path), width)
    layout = browser.execute_script(LAYOUT)
    assert layout["overflow"] <= 0, layout["outside"]
    assert layout["outside"] == []
    assert layout["unseen"] == []
    assert layout["undecoded"] == 0
    assert layout["smallest"] >= 11
    assert (layout["images"], layout["charts"]) == DRAWN[kind]
    assert browser.get_log("browser") == []
    requests = [
        url
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
        for url in re.findall(r'"request":\{.*?"url":"([^"]*)"', entry["message"])
    ]
    assert requests
    assert all(url.startswith(("file:", "data:")) for url in requests)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["finished", "counted", "linked"])
def test_text_stands_out_from_its_ground_in_both_colour_schemes(
    browser: Any, kind: str, scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    show(browser, written(kind, request, tmp_path), LAPTOP, scheme)
    contrast, where = browser.execute_script(CONTRAST)
    assert contrast >= 4.5, where
    page_colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", page_colour)[:3])) / 3
    assert (brightness > 128) == (scheme == "light")


# Of every bar its colour, its width, and the room that it has.
BARS = """
const rows = [...document.querySelectorAll('.bars li')];
return rows.map(row => { const bar = row.querySelector('i');
  return [getComputedStyle(bar).backgroundColor, bar.getBoundingClientRect().width,
          row.querySelector('.bar-track').getBoundingClientRect().width]; });
"""


@pytest.mark.parametrize(("width", "scheme"), [(LAPTOP, "light"), (PHONE, "dark")])
def test_bars_of_a_profile_are_seen_in_a_colour_for_each_phase(
    browser: Any, counted: Any, width: int, scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    show(browser, written("counted", request, tmp_path), width, scheme)
    drawn = browser.execute_script(BARS)
    layers = counted[1].layers
    colours = {layer.phase: colour for layer, (colour, _, _) in zip(layers, drawn, strict=True)}
    assert len(set(colours.values())) == len(colours) == 3
    assert [colours[layer.phase] for layer in layers] == [colour for colour, _, _ in drawn]
    most = max(layer.count for layer in layers)
    for layer, (_, bar, track) in zip(layers, drawn, strict=True):
        assert bar == pytest.approx(max(track * layer.count / most, 1), abs=1), layer.name
