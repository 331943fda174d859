"""Headless Chromium with the network shut off, driven through Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@contextmanager
def chromium_browser(path: str) -> Iterator[Browser]:
    """A browser with an empty profile; closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


def log_in(page: Page, url: str, email: str, password: str) -> None:
    """Log in to Label Studio as a person does."""
    page.goto(f"{url}/user/login/")
    page.fill("input[name=email]", email)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda address: "/user/login" not in address)


def label_by_key(page: Page, key: str) -> None:
    """Press a choice's key and submit; returns when the server has stored the annotation."""
    page.wait_for_selector(".lsf-richtext__line")
    with page.expect_response(
        lambda r: r.request.method == "POST" and r.url.split("?")[0].endswith("/annotations")
    ) as got:
        page.keyboard.press(key)
        page.keyboard.press("Control+Enter")
    assert got.value.status == 201
