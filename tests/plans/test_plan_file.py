"""`plans.toml`: read, compared, applied, written; the catalogues of the fixtures rate as they should."""

from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.measuring import passes
from plans.default_catalogue import install_default_catalogue
from plans.models import Meter, Plan, PlanVersion, VersionState
from plans.plan_file import (
    Catalogue,
    ComponentEntry,
    LimitEntry,
    MeterEntry,
    PlanEntry,
    PlanFileWrong,
    PriceList,
    TierEntry,
    read_catalogue,
    write_catalogue,
)
from plans.plan_sync import apply_catalogue, catalogue_changes, export_catalogue
from plans.pricing import Terms, rate_period
from plans.publishing import NotPublishable, NotRetirable, clone_for_customer
from plans.queries import newest_version, terms_of
from tests.factories import create_organization
from tests.plans.catalogues import BURSTS, CLOUD, DESIGN

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 1, tzinfo=UTC)
FIXTURES = Path(__file__).parent / "fixtures"
FILES = ("design", "cloud", "bursts")


def text_of(name: str) -> str:
    return (FIXTURES / f"{name}.toml").read_text()


def apply(text: str) -> list[PlanVersion]:
    return apply_catalogue(read_catalogue(text), by=None, at=AT)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("plans", *arguments, stdout=out)
    return out.getvalue()


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_writing_and_reading_is_the_same_and_stable(name: str) -> None:
    catalogue = read_catalogue(text_of(name))
    written = write_catalogue(catalogue)
    assert read_catalogue(written) == catalogue
    assert write_catalogue(read_catalogue(written)) == written


def test_texts_of_any_kind_survive() -> None:
    odd = 'Quote " backslash \\ tab \t line\nünïcode ₿'
    text = text_of("bursts").replace('name = "Pro"', "name = 'x'")
    catalogue = read_catalogue(text)
    assert catalogue.plans["pro"].name == "x"
    apply(text)
    Plan.objects.filter(slug="pro").update(description=odd)
    exported = export_catalogue()
    assert read_catalogue(write_catalogue(exported)) == exported
    assert exported.plans["pro"].description == odd


AMOUNTS = st.decimals(min_value=0, max_value=10**12, places=9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIERS = st.builds(TierEntry, AMOUNTS, AMOUNTS, st.none() | AMOUNTS)
COMPONENTS = st.builds(
    ComponentEntry, TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=2), TEXTS, AMOUNTS, st.none() | AMOUNTS,
    AMOUNTS, st.none() | AMOUNTS, st.none() | AMOUNTS, st.lists(TIERS, max_size=2).map(tuple),
)  # fmt: skip
LISTS = st.builds(
    PriceList, TEXTS, TEXTS, AMOUNTS, AMOUNTS, TEXTS, st.none() | st.integers(1, 9), st.integers(0, 99),
    st.lists(TEXTS, max_size=2).map(tuple), st.lists(TEXTS, max_size=2).map(tuple),
    st.lists(st.builds(LimitEntry, st.integers(1, 9), st.integers(1, 9)), max_size=2).map(tuple),
    st.lists(COMPONENTS, max_size=2).map(tuple),
)  # fmt: skip
PLANS = st.builds(PlanEntry, TEXTS, TEXTS, st.booleans(), st.integers(0, 9), st.tuples(LISTS))
METERS = st.builds(
    MeterEntry, TEXTS, TEXTS, TEXTS, st.integers(0, 9), TEXTS, AMOUNTS, TEXTS, TEXTS,
    st.lists(TEXTS, max_size=2).map(tuple),
    st.dictionaries(TEXTS, st.lists(TEXTS, min_size=1, max_size=2).map(tuple), max_size=2),
)  # fmt: skip
CATALOGUES = st.builds(
    Catalogue, st.dictionaries(TEXTS, METERS, max_size=2), st.dictionaries(TEXTS, PLANS, max_size=2)
)


@settings(
    suppress_health_check=[HealthCheck.too_slow]
)  # the first catalogue takes a second on a busy machine
@given(CATALOGUES)
def test_any_catalogue_is_read_as_it_was_written(catalogue: Catalogue) -> None:
    assert read_catalogue(write_catalogue(catalogue)) == catalogue


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('fee = "29.00"', "fee = 29.0", "plans.pro, prices 1, fee: a number in quotes"),
        ('fee = "29.00"', 'fee = "much"', "fee: a number in quotes"),
        ('fee = "29.00"', 'fee = "NaN"', "fee: a number in quotes"),
        ('fee = "29.00"', 'feee = "29.00"', "feee is not known here"),
        ('name = "Pro"\n', "", "plans.pro: name is missing"),
        ("position = 1", "position = true", "position: a whole number is expected"),
        ("[[plans.pro.prices]]", "[plans.pro.prices]", "prices: a list is expected"),
        ("calls = 20 }", "calls = 20 ", "Not TOML"),
        ('included = "1000"', 'included = "1000"\n[[plans.free.prices]]\nfee = "1"', "two price lists"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, words: str) -> None:
    with pytest.raises(PlanFileWrong) as refused:
        read_catalogue(text_of("bursts").replace(old, new))
    assert words in refused.value.detail.replace("plans, pro", "plans.pro").replace("the file, ", "")


# --- the fixtures ------------------------------------------------------------------------------------------------


def same_terms(slug: str, terms: Terms, *, of: int | None = None) -> bool:
    found = terms_of(newest_version(slug))
    return (found.name, found.currency, found.fee_minor, found.usage[:of]) == (
        terms.name, terms.currency, terms.fee_minor, terms.usage
    )  # fmt: skip


def test_the_design_catalogue_is_the_one_that_is_installed() -> None:
    install_default_catalogue(at=AT)
    assert catalogue_changes(read_catalogue(text_of("design"))) == []
    assert all(same_terms(slug, terms) for slug, terms in DESIGN.items())


def test_the_cloud_catalogue_rates_as_its_terms() -> None:
    apply(text_of("cloud"))
    assert same_terms("cloud", CLOUD, of=len(CLOUD.usage))
    usage = {
        ("api_calls", ""): Decimal(250_000),
        ("bandwidth", "direction=egress"): Decimal("123.456789"),
        ("bandwidth", "direction=ingress"): Decimal(9_999),
        ("compute", "instance_type=small;offer=spot"): Decimal("200.5"),
    }
    rated = rate_period(terms_of(newest_version("cloud")), usage)
    assert rated.total_minor == rate_period(CLOUD, usage).total_minor == 210_00 + 6_17 + 3_01


def test_the_burst_catalogue_has_quotas_and_short_windows() -> None:
    apply(text_of("bursts"))
    for slug, limited in BURSTS.items():
        assert same_terms(slug, limited.terms)
        limits = newest_version(slug).rate_limits.values_list("window_seconds", "calls")
        assert dict(limits)[1] == limited.burst


@pytest.mark.parametrize("name", FILES)
def test_applying_what_was_exported_changes_nothing(name: str) -> None:
    assert apply(text_of(name))
    written = write_catalogue(export_catalogue())
    assert catalogue_changes(read_catalogue(text_of(name))) == []
    assert catalogue_changes(read_catalogue(written)) == []
    assert apply(written) == []
    assert write_catalogue(export_catalogue()) == written


# --- applying ----------------------------------------------------------------------------------------------------


def test_a_changed_list_becomes_a_new_version_and_the_old_stays_as_it_was() -> None:
    apply(text_of("design"))
    old = newest_version("starter")
    text = text_of("design").replace('fee = "49.00"', 'fee = "59.00"').replace('"0.001"', '"0.0011"')
    (change,) = catalogue_changes(read_catalogue(text))
    assert change.title == "~ plan starter, USD monthly: a new version"
    assert [line for line in change.lines if "fee" in line] == ["- fee 49", "+ fee 59"]
    assert [line.partition("unit_price ")[2] for line in change.lines if "price of" in line] == [
        "0.001, package_size 1", "0.0011, package_size 1",
    ]  # fmt: skip
    (new,) = apply(text)
    old.refresh_from_db()
    assert (new.number, new.fee_minor, new.state) == (2, 5900, VersionState.PUBLISHED)
    assert (old.number, old.fee_minor, old.state) == (1, 4900, VersionState.RETIRED)


def test_a_list_that_is_added_or_taken_away() -> None:
    apply(text_of("design"))
    yearly = text_of("design") + '\n[[plans.enterprise.prices]]\ninterval = "year"\nfee = "9990.00"\n'
    (change,) = catalogue_changes(read_catalogue(yearly))
    assert change.title == "+ plan enterprise, USD yearly"
    apply(yearly)
    assert newest_version("enterprise", interval="year").fee_minor == 999_000
    (change,) = catalogue_changes(read_catalogue(text_of("design")))
    assert change.title == "- plan enterprise, USD yearly: off sale; its customers stay on it"
    apply(text_of("design"))
    with pytest.raises(PlanVersion.DoesNotExist):
        newest_version("enterprise", interval="year")


def test_a_plan_that_is_not_in_the_file_goes_off_sale_and_comes_back() -> None:
    apply(text_of("design"))
    text = text_of("design")
    start = text.index("[plans.enterprise]")
    assert [c.title for c in catalogue_changes(read_catalogue(text[:start]))] == [
        "- plan enterprise: off sale and archived; its customers stay on it"
    ]
    apply(text[:start])
    assert Plan.objects.get(slug="enterprise").archived_at == AT
    assert [version.number for version in apply(text)] == [2]


def test_all_or_nothing() -> None:
    apply(text_of("design"))
    text = text_of("design").replace('fee = "49.00"', 'fee = "59.00"').replace('"5000000"', '"0.5"')
    with pytest.raises(NotPublishable, match="plans.enterprise, USD month: API calls: Included quantity 0.5"):
        apply(text)
    assert newest_version("starter").fee_minor == 4900


def test_what_must_not_happen_is_refused() -> None:
    apply(text_of("design"))
    text = text_of("design")
    with pytest.raises(NotRetirable):
        apply(text.replace("plans.free", "plans.gratis"))
    wrong = {
        'unit = "call"': 'unit = "call"\ndecimals = 3',
        'unit_price = "0.0002"': 'unit_price = "0.0002"\nmodel = "magic"',
        'fee = "999.00"': 'fee = "999.001"',
        'trial_days = 30': 'trial_days = 30\ncurrency = "XYZ"',
        'included = "5000000"': 'included = "-5"',
        "calls = 2000": "calls = 0",
    }  # fmt: skip
    for old, new in wrong.items():
        with pytest.raises(PlanFileWrong):
            apply(text.replace(old, new))
    with pytest.raises(PlanFileWrong, match="no such meter"):
        apply(
            text.replace('meter = "api_calls"\nincluded = "5000000"', 'meter = "none"\nincluded = "5000000"')
        )
    assert PlanVersion.objects.count() == 4


def test_filters_of_any_spelling_let_the_same_events_through_afterwards() -> None:
    """The admin takes any JSON: a value by itself, a number, nothing at all."""
    filters = {"direction": "egress", "code": [200, "304"], "never": []}
    Meter.objects.create(slug="odd", name="Odd", unit="unit", filters=filters)
    written = write_catalogue(export_catalogue())
    Meter.objects.all().delete()
    apply(written)
    read = Meter.objects.get(slug="odd").filters
    assert read == {"direction": ["egress"], "code": ["200", "304"], "never": []}
    values = {"direction": "egress", "code": 200}
    for spelling in (filters, read):
        assert not passes(spelling, values)
        assert passes({name: spelling[name] for name in values}, values)
    assert write_catalogue(export_catalogue()) == written


def test_the_plan_of_test_keys_may_change_its_only_currency() -> None:
    apply(text_of("design"))
    head, free, rest = text_of("design").partition("[[plans.free.prices]]\n")
    (made,) = apply(head + free + 'currency = "EUR"\n' + rest)
    assert (made.plan.slug, made.currency) == ("free", "EUR")
    assert [v.currency for v in Plan.objects.get(slug="free").versions.filter(state="published")] == ["EUR"]


def test_private_plans_stay_out_of_the_file() -> None:
    apply(text_of("design"))
    organization = create_organization()
    private = clone_for_customer(version=newest_version("starter"), organization=organization, by=None, at=AT)
    assert private.plan.slug not in export_catalogue().plans
    mine = f'\n[plans.{private.plan.slug}]\nname = "Mine"\n[[plans.{private.plan.slug}.prices]]\n'
    with pytest.raises(PlanFileWrong, match="private"):
        apply(text_of("design") + mine)


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_exports_compares_and_applies(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    install_default_catalogue(at=AT)
    run("export", str(file))
    assert file.read_text() == run("export")
    assert run("diff", str(file)) == "Nothing differs.\n"
    file.write_text(file.read_text().replace('fee = "49"', 'fee = "59"'))
    with pytest.raises(SystemExit) as ended:
        run("diff", str(file))
    assert ended.value.code == 2
    assert newest_version("starter").fee_minor == 4900
    assert "Starter v2 is on sale." in run("apply", str(file), "--yes")
    assert run("apply", str(file), "--yes") == "Nothing differs.\n"


def test_a_difference_that_cannot_be_applied_is_refused_by_diff_too(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    install_default_catalogue(at=AT)
    exported = run("export")
    for old, new, words in (
        ('included = "5000000"', 'included = "0.5"', "Included quantity 0.5"),
        ('fee = "49"', 'fee = "49.001"', "USD has 2 decimals"),
    ):
        file.write_text(exported.replace(old, new))
        with pytest.raises(CommandError, match=words):
            run("diff", str(file))
    assert PlanVersion.objects.count() == 4
    assert newest_version("starter").fee_minor == 4900


def test_the_command_asks_before_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plans.toml").write_text(text_of("bursts"))
    monkeypatch.setattr("builtins.input", lambda _: "n")
    with pytest.raises(CommandError, match="Nothing was changed"):
        run("apply", str(tmp_path / "plans.toml"))
    monkeypatch.undo()
    monkeypatch.setattr("sys.stdin", StringIO())
    with pytest.raises(CommandError, match="say --yes where nobody can be asked"):
        run("apply", str(tmp_path / "plans.toml"))
    assert not Meter.objects.exists()
    monkeypatch.setattr("builtins.input", lambda _: "y")
    run("apply", str(tmp_path / "plans.toml"))
    assert newest_version("pro").fee_minor == 2900


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        run("diff", str(tmp_path / "none.toml"))
    (tmp_path / "odd.toml").write_text("plans = 3")
    with pytest.raises(CommandError, match="plans: a table is expected"):
        run("diff", str(tmp_path / "odd.toml"))
