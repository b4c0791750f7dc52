"""Pages in headless Chromium, for the tests of what herjax writes as HTML."""

import contextlib

import pytest

WIDTHS = pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])


@contextlib.contextmanager
def opened(browser, page, path, width, scheme="light", ready=True):
    """A tab with the page; at its end nothing was logged, loaded from elsewhere, or too wide.

    ``ready``: wait until the page says that it is, as those of herjax do.
    """
    path.write_text(page)
    errors, requests = [], []
    tab = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    tab.on("console", lambda message: message.type == "error" and errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(f"file://{path}")
    if ready:
        tab.locator("html[data-ready]").wait_for()
    yield tab
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [f"file://{path}"]
    tab.screenshot(path=path.with_suffix(".png"), full_page=True)
    tab.close()


def violations(tab):
    """What axe finds wrong for people who see little, or use no mouse: a line each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(tab).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}, {node['html']}" for rule in found for node in rule["nodes"]
    ]
