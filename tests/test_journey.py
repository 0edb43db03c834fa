"""The main job, as a new customer does it: pricing page, sign-up, mail, key, calls, usage page, ledger, reconcile."""

import json
import re
import time
from typing import Any

import pytest

from keys.hashing import KEY_PATTERN
from tests.demo import Demo
from tests.http import status_of

PASSWORD = "long enough to be safe 42"


def sign_up(page: Any, portal: str, *, plan: str, email: str) -> str:
    """From the pricing page to the test key: three screens."""
    page.goto(f"{portal}/pricing/")
    page.click(f"a[href*='plan={plan}']")
    page.fill("[name=email]", email)
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=organization_name]", "Acme Routing")
    page.click("main form [type=submit]")
    page.wait_for_selector("#new-key")
    return str(page.inner_text("#new-key"))


def confirm_address(page: Any, portal: str, email: str) -> None:
    """Open the link of the mail that the worker delivered."""
    for _ in range(40):
        page.goto(f"{portal}/mailbox/")
        row = page.locator("tr", has_text=email).locator("a", has_text=re.compile("confirm", re.IGNORECASE))
        if row.count():
            break
        time.sleep(0.25)
    row.first.click()
    page.click("main article a[href*='confirm-email']")
    page.click("main form [type=submit]")


def take_live_key(page: Any, portal: str) -> str:
    page.goto(f"{portal}/welcome/")
    page.click("button[name=mode][value=live]")
    page.wait_for_selector("#new-key")
    return str(page.inner_text("#new-key"))


def figures(page: Any, address: str) -> list[str]:
    """The values of the row of figures on the usage page."""
    page.goto(address)
    return [text.split()[0] for text in page.locator(".stat-value").all_inner_texts()]


def shown_within(page: Any, address: str, text: str, *, seconds: int) -> bool:
    """Whether a text comes to stand on a page within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        page.goto(address)
        if text in page.inner_text("main"):
            return True
        time.sleep(0.5)
    return False


@pytest.mark.slow
def test_from_the_pricing_page_to_an_equal_ledger(demo: Demo, new_page: Any) -> None:
    demo.start()
    facts = json.loads((demo.state / "demo.json").read_text())
    portal, gateway, page = facts["portal"], facts["gateway"], new_page()
    search = f"{gateway}/places/v1/search?q=Lisbon"

    started = time.monotonic()
    test_key = sign_up(page, portal, plan="starter", email="dora@acme.example")
    assert KEY_PATTERN.fullmatch(test_key)
    assert status_of(search, test_key) == 200
    assert time.monotonic() - started < 30
    confirm_address(page, portal, "dora@acme.example")
    live_key = take_live_key(page, portal)

    # A test key has 10 calls a minute and made one already: the tenth of these is one too many.
    answers = [status_of(search, test_key) for _ in range(10)]
    answers += [status_of(search, live_key) for _ in range(12)]
    answers += [status_of(search, live_key[:-1] + "#"), status_of(f"{gateway}/places/v1/none", live_key)]
    assert answers == [200] * 9 + [429] + [200] * 12 + [401, 404]

    assert shown_within(page, f"{portal}/usage/?mode=test", "1 rate limited", seconds=15)  # drained every 5 s
    assert figures(page, f"{portal}/usage/?mode=test")[0] == "10"
    assert figures(page, f"{portal}/usage/")[0] == "12"

    told = demo.manage("reconcile", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    assert ledger_rows(demo, "Acme Routing") == {"live": 12, "test": 10}


def ledger_rows(demo: Demo, organization: str) -> dict[str, int]:
    """Events of an organization by mode, as the ledger has them."""
    code = (
        "import json; from collections import Counter; from accounts.models import Organization; "
        "from metering.models import UsageEvent; "
        f"org = Organization.objects.get(name={organization!r}); "
        "print(json.dumps(Counter(UsageEvent.objects.for_organization(org).values_list('mode', flat=True))))"
    )
    return dict(json.loads(demo.manage("shell", "-v", "0", "-c", code).stdout.strip().splitlines()[-1]))
