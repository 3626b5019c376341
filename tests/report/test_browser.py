"""The page in a real browser: it draws, needs no network, fits a phone, and can be used by keyboard and by ear."""

import shutil

import pytest

from robustaug.report import write

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
TRACES = ".scatterlayer .trace, .barlayer .trace"
DRAWN = f"[...document.querySelectorAll('.plot')].map((p) => p.querySelectorAll('{TRACES}').length)"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser):
    """Open a page; what it logs, asks the network for, or shows as a dialog is kept."""
    contexts = []

    def opened(path, width=1280, scheme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.heard.append(request.url) if "data:" not in request.url[:5] else None)
        page.goto(path.as_uri())
        for _ in range(100 if script else 0):  # the page's own policy forbids wait_for_function
            if page.evaluate(f"{DRAWN}.every((traces) => traces > 0)"):
                break
            page.wait_for_timeout(100)
        assert page.heard.pop(0) == path.as_uri()
        return page

    yield opened
    for context in contexts:
        context.close()


def test_every_figure_is_drawn_and_nothing_is_asked_of_the_network(default_page, open_page):
    page = open_page(default_page)
    assert page.heard == []
    drawn = page.evaluate(DRAWN)
    assert len(drawn) >= 7
    assert min(drawn) >= 2


def test_hostile_names_run_nothing(make_run, open_page):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    run = {"name": bad, "limits": [bad], "command": bad}
    classes = [f"{bad}{digit}" for digit in range(10)]
    page = open_page(write(make_run("hostile", models=("standard", f"robust{bad}"), classes=classes, run=run)))
    page.wait_for_timeout(300)
    assert page.heard == []
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out(default_page, open_page, width):
    page = open_page(default_page, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_fails_the_accessibility_rules(default_page, open_page, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(default_page, scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    violations = Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]][:3]) for v in violations] == []


def test_figures_follow_the_colour_scheme(default_page, open_page):
    path = default_page
    colours = [
        open_page(path, scheme=scheme).evaluate(
            "document.querySelector('.plot .scatterlayer .lines path.js-line')?.style.stroke"
            " + getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    assert "undefined" not in colours[0]
    assert colours[0] != colours[1]


def test_the_keyboard_reaches_everything_and_shows_where_it_is(default_page, open_page):
    page = open_page(default_page)
    wanted = page.evaluate("document.querySelectorAll('a[href], summary, button, [tabindex=\"0\"]').length")
    seen = set()
    for _ in range(4 * wanted):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "(() => { const e = document.activeElement; if (e === document.body) return null;"
            " e.dataset.visited ??= String(Math.random()); const s = getComputedStyle(e);"
            " return [e.dataset.visited, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0]; })()"
        )
        if where is None:
            break
        assert where[1], "the focus must be seen"
        seen.add(where[0])
    hidden = page.evaluate("[...document.querySelectorAll('details:not([open]) [tabindex=\"0\"]')].length")
    assert len(seen) == wanted - hidden
    page.keyboard.press("Tab")
    first = page.evaluate("document.querySelector('summary').focus() || document.querySelector('details').open")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open") is not first


def test_without_scripts_every_number_is_still_there(default_page, open_page):
    page = open_page(default_page, script=False)
    assert page.locator("table.headline").is_visible()
    page.locator("figure summary").first.click()
    assert page.locator("figure table").first.is_visible()
