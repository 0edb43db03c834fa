import pytest
from django.test import Client

from core.errors import PortalError
from dashboard.refusal_docs import all_refusals
from gateway import problems
from metering import answers
from metering.answers import Refusal


def codes_of_doors() -> set[str]:
    named = [value for module in (answers, problems) for value in vars(module).values()]
    listed = [code for codes in (answers._CLOSED, answers._LIMITED) for code in codes]
    return (
        {value.code for value in named if isinstance(value, Refusal)} | set(listed) | {"method_not_allowed"}
    )


def test_every_code_of_the_doors_is_explained_by_hand() -> None:
    explained = {refusal.code: refusal for refusal in all_refusals()}
    assert len(codes_of_doors()) > 25
    assert codes_of_doors() - set(explained) == set()
    assert all(refusal.meaning and refusal.remedy for refusal in explained.values())


def test_every_error_of_an_act_has_its_anchor() -> None:
    codes = {error.code for error in PortalError.__subclasses__()}
    assert codes - {refusal.code for refusal in all_refusals()} == set()
    assert len(all_refusals()) == len({refusal.code for refusal in all_refusals()})


@pytest.mark.django_db
def test_the_page_has_an_anchor_for_each() -> None:
    page = Client().get("/docs/errors/").content.decode()
    assert [code for code in codes_of_doors() if f'id="{code}"' not in page] == []
