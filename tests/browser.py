"""Debian's Chromium for browser tests: one process a run, driven by Playwright, a context per page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from playwright.sync_api import Browser as PlaywrightBrowser
from playwright.sync_api import Page, sync_playwright

from deploy.local.ports import accepts, free_port
from deploy.local.process import Program, spawn, stop, wait_ready

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # as root and in containers there is none
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Session:
    """What one test does with the browser."""

    def __init__(self, browser: PlaywrightBrowser) -> None:
        self._browser = browser

    def new_page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        scheme = "dark" if dark else "light"
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(10_000)
        return context.new_page()


class Browser:
    """The process. Playwright connects for each test anew, so that no event loop is left running between tests."""

    def __init__(self, profile: Path) -> None:
        self._port = free_port()
        self._log = profile.with_suffix(".log")
        self._program = Program(
            name="chromium",
            argv=[
                str(CHROMIUM),
                *_FLAGS,
                f"--remote-debugging-port={self._port}",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            ready=lambda: accepts(self._port),
        )
        self._process: Popen[bytes] | None = None

    def start(self) -> None:
        self._process = spawn(self._program, self._log)
        wait_ready(self._program, self._process, self._log)

    def stop(self) -> None:
        if self._process:
            stop(self._program, self._process)

    @contextmanager
    def session(self) -> Iterator[Session]:
        with sync_playwright() as playwright:
            browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{self._port}")
            try:
                yield Session(browser)
            finally:
                for context in browser.contexts[1:]:  # the first is the browser's own
                    context.close()
                browser.close()
