"""`make screenshots`: the running demo's pages, light and dark, 360 and 1280 px wide, into var/screenshots."""

import json
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from deploy.local.demo import state_folder

_PUBLIC = ("/", "/pricing/", "/accounts/login/", "/accounts/signup/", "/docs/errors/")
_CUSTOMER = ("/usage/", "/usage/calls/", "/keys/", "/keys/new/", "/quick-start/", "/plan/", "/team/")
_STAFF = ("/staff/", "/staff/revenue/", "/admin/")
_WIDTHS = (360, 1280)


def main() -> int:
    state = state_folder()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not (state / "demo.json").is_file():
        print(
            "This needs Chromium (apt-get install chromium) and the running demo (make demo).",
            file=sys.stderr,
        )
        return 1
    facts = json.loads((state / "demo.json").read_text())
    target = state / "screenshots"
    target.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for login, paths in ((None, _PUBLIC), (facts["customer"], _CUSTOMER), (facts["staff"], _STAFF)):
            _take_all(browser, facts["portal"], login, paths, target)
        browser.close()
    print(f"{len(list(target.glob('*.png')))} pictures in {target}")
    return 0


def _take_all(
    browser: Browser, portal: str, login: dict[str, str] | None, paths: tuple[str, ...], target: Path
) -> None:
    context = browser.new_context(locale="en-GB", timezone_id="UTC")
    page = context.new_page()
    if login:
        page.goto(f"{portal}/accounts/login/")
        page.fill("input[name=login]", login["email"])
        page.fill("input[name=password]", login["password"])
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda url: "/accounts/login/" not in url)
    for path in paths:
        _take(page, portal, path, target)
    context.close()


def _take(page: Page, portal: str, path: str, target: Path) -> None:
    name = path.strip("/").replace("/", "-") or "landing"
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.goto(portal + path)
            page.screenshot(path=target / f"{name}-{width}-{scheme}.png", full_page=True)


if __name__ == "__main__":
    sys.exit(main())
