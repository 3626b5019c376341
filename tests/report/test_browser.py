"""The page in a real browser: it draws, needs no network, fits a phone, and can be used by keyboard and by ear."""

import itertools
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

    def opened(path, width=1280, scheme="light", script=True, before=""):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(before)
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.heard.append(request.url) if "data:" not in request.url[:5] else None)
        page.goto(path.as_uri())
        for _ in range(100 if script and not before else 0):  # the page's own policy forbids wait_for_function
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


@pytest.fixture(scope="module")
def clicked(browser, default_page):
    """One page for all that a reader does with it, and what it says meanwhile."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.goto(default_page.as_uri())
    for _ in range(100):
        if page.evaluate(f"{DRAWN}.every((traces) => traces > 0)"):
            break
        page.wait_for_timeout(100)
    yield page
    assert page.heard == []
    page.close()


def test_the_contents_lead_to_every_section(clicked):
    clicked.add_style_tag(content="html { scroll-behavior: auto !important; }")
    links = clicked.locator("nav.contents a")
    assert links.count() == clicked.locator("main > section").count()
    for link in links.all():
        link.click()
        target = link.get_attribute("href")
        assert clicked.evaluate("location.hash") == target
        box = clicked.locator(f"{target} > h2").bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 900
    clicked.locator("nav.contents a").first.click()
    clicked.wait_for_timeout(100)
    assert clicked.locator("nav.contents a[aria-current]").count() == 1


def test_tables_unfold_and_fold_again(clicked):
    for summary in clicked.locator("main summary").all():
        summary.click()
        held = summary.locator("xpath=..")
        assert held.locator("table, pre").first.is_visible()
        assert held.get_attribute("open") is not None
        summary.press("Enter")
        assert held.get_attribute("open") is None


def test_pointing_at_a_curve_tells_its_values(clicked):
    plot = clicked.locator("#figure-attack-0 .plot")
    for step in range(20):  # the first moves may come while the page still scrolls
        plot.hover(position={"x": 100 + 20 * step, "y": 100})
        clicked.wait_for_timeout(100)
        if said := plot.locator(".hoverlayer").text_content() or "":
            break
    assert "standard" in said
    assert "%" in said
    clicked.mouse.move(0, 0)


def test_a_figure_can_be_saved(clicked):
    with clicked.expect_download() as saving:
        clicked.locator("#figure-corruptions .save").click()
    assert saving.value.suggested_filename == "figure-corruptions.svg"
    assert saving.value.path().read_text(encoding="utf-8").startswith("<svg")


def test_the_page_prints_light_whole_and_without_what_cannot_be_clicked_on_paper(clicked):
    stroke = "document.querySelector('.plot path.js-line').style.stroke"
    light = clicked.evaluate(stroke)
    clicked.emulate_media(color_scheme="dark")
    clicked.wait_for_timeout(300)
    assert clicked.evaluate(stroke) != light
    clicked.evaluate("dispatchEvent(new Event('beforeprint'))")
    clicked.emulate_media(media="print", color_scheme="dark")
    clicked.wait_for_timeout(300)
    assert clicked.evaluate(stroke) == light
    assert clicked.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for hidden in ("nav.contents", ".save >> nth=0", "details.data >> nth=0"):
        assert not clicked.locator(hidden).is_visible()
    assert clicked.pdf().startswith(b"%PDF")
    clicked.evaluate("dispatchEvent(new Event('afterprint'))")
    clicked.emulate_media(media="screen", color_scheme="light")
    assert clicked.evaluate(f"{DRAWN}.every((traces) => traces > 0)")


def test_a_screen_reader_hears_the_order_and_the_name_of_everything(clicked):
    levels = clicked.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(b - a for a, b in itertools.pairwise(levels)) <= 1
    order = clicked.evaluate("[...document.querySelectorAll('main > section')].map((s) => s.id)")
    wanted = ["risks", "gates", "changed", "headline", "calibration", "attacks", "corruptions", "foreign", "cohorts"]
    assert [one for one in order if one in wanted] == wanted
    for section in order:
        assert clicked.get_by_role("region", name=clicked.locator(f"#{section} > h2").text_content()).count() >= 1
    for plot in clicked.locator(".plot").all():
        assert len(plot.get_attribute("aria-label") or "") > 20
    assert clicked.locator("img:not([alt])").count() == 0
    assert clicked.evaluate("[...document.querySelectorAll('table')].every((t) => t.caption.textContent.trim())")


def test_the_first_tab_skips_to_the_report(default_page, open_page):
    page = open_page(default_page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_no_script_runs_but_those_that_the_page_names(default_page, open_page):
    page = open_page(default_page)
    page.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.intruder = 1';"
        " document.head.append(s); })()"
    )
    assert page.evaluate("window.intruder") is None
    assert any("Content Security Policy" in said for said in page.heard)


def test_a_browser_that_cannot_unpack_says_so_and_has_the_tables(default_page, open_page):
    page = open_page(default_page, before="delete window.DecompressionStream")
    page.wait_for_timeout(300)
    assert page.locator("html.undrawn").count() == 1
    said = "getComputedStyle(document.querySelector('.plot'), '::after').content"
    assert "data table under it holds the same numbers" in page.evaluate(said)
    page.locator("figure summary").first.click()
    assert page.locator("figure table").first.is_visible()
