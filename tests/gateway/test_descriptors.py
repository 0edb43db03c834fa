"""A gateway takes as many descriptors as it may."""

import resource
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from gateway import descriptors


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    """The process's own limit, put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_is_raised_to_the_hard_one(limit: tuple[int, int]) -> None:
    _, hard = limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
    most = descriptors.raise_descriptor_limit()
    assert most == (descriptors.MOST if hard == resource.RLIM_INFINITY else hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most > 1_024


def test_few_descriptors_are_told(limit: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as lines:
        monkeypatch.setattr(descriptors, "WANTED", 1)
        descriptors.take_descriptors()
        assert lines == []
        monkeypatch.setattr(descriptors, "WANTED", 1 << 30)
        descriptors.take_descriptors()
    assert [line["event"] for line in lines] == ["few_descriptors"]
