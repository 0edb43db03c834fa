"""The browser fixture: contexts of their own, and nothing left behind for asynchronous tests."""

import asyncio
from collections.abc import Callable

from playwright.sync_api import Page


def test_pages_are_different_people(new_page: Callable[..., Page]) -> None:
    alice, bob = new_page(width=360, height=800, dark=True), new_page()
    for page in (alice, bob):
        page.route("http://farebox.test/", lambda route: route.fulfill(body="<h1>Hello</h1>"))
        page.goto("http://farebox.test/")
    alice.evaluate("document.cookie = 'who=alice'")

    assert bob.evaluate("document.cookie") == ""
    assert alice.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is True
    assert alice.evaluate("innerWidth") == 360
    assert bob.locator("h1").inner_text() == "Hello"


async def test_an_event_loop_can_run_after_a_browser_test() -> None:
    assert asyncio.get_running_loop().is_running()
