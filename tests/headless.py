"""Pages in a real browser, without network: what the tests of the reports and of the site look at them with."""

import shutil

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
LOCAL = ("file:", "data:", "blob:")

DRAWN = """() => Object.fromEntries([...document.querySelectorAll(".js-plotly-plot")].map(
    (plot) => [plot.id.replace("plot-", ""), plot.querySelectorAll("svg.main-svg .scatterlayer .trace").length]))"""
CLIPPED = """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap((plot) => {
    const frame = plot.getBoundingClientRect();
    return [...plot.querySelectorAll("svg text")].filter((text) => {
        const box = text.getBoundingClientRect();
        return box.width > 0 && (box.left < frame.left - 1 || box.right > frame.right + 1
            || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
    }).map((text) => plot.id + ": " + text.textContent);
})"""


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=program, args=FLAGS, timeout=0)
        yield browser
        browser.close()


@pytest.fixture
def offline(browser):
    """Opens an address without network; a request that leaves or fails, a word on the console, a dialog: a fault."""
    contexts, wrong = [], []

    def watch(route):
        if route.request.url.startswith(LOCAL):
            route.continue_()
        else:
            wrong.append(route.request.url)
            route.abort()

    def refuse(dialog):
        wrong.append(dialog.message)
        dialog.dismiss()

    def open_page(address, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(0)  # the time limit of the test is the limit
        contexts.append(context)
        context.set_offline(True)
        context.route("**/*", watch)
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith(LOCAL) or wrong.append(request.url))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", refuse)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def drawn(page):
    """Return how many traces each plot shows, once all are drawn."""
    page.wait_for_selector("html[data-drawn]", state="attached")
    return page.evaluate(DRAWN)


def clipped(page):
    """Return the labels of plots that are cut off."""
    return page.evaluate(CLIPPED)


def fits(page):
    """Return whether nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
