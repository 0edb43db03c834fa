"""A soak's verdict: each promise that is broken makes it fail, and names itself."""

from collections import Counter
from collections.abc import Callable

import pytest

from benchmarks.soak_load import Promises
from benchmarks.soak_report import JUDGED_FROM, Ledger, report
from benchmarks.soak_watch import Seen, Watch, growth

SAMPLES = 100


def watch(**seen: Seen) -> Watch:
    """A quiet hour of one process."""
    usual = {"gateway-1": Seen([7] * SAMPLES, [100_000] * SAMPLES, [30] * SAMPLES)}
    keys = [{"o": 5, "done": number} for number in range(SAMPLES)]
    return Watch(dict, dict, usual | {name.replace("_", "-"): one for name, one in seen.items()}, keys)


def judge(promises: Promises, ledger: Ledger, seen: Watch, seconds: float = JUDGED_FROM) -> bool:
    return report(promises, ledger, seen, seconds=seconds, rate=1)


def good() -> tuple[Promises, Ledger]:
    return Promises(["a", "b"], Counter(plain=2)), Ledger(2, 0, 0, 0)


def test_a_quiet_hour_keeps_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(*good(), watch())
    lines = capsys.readouterr().out.splitlines()
    assert "soak_lost 0 calls (asked: 0)" in lines
    assert "soak_gateway_1_memory_growth 0.0 % (asked: at most 5)" in lines
    assert "soak_keys_done 94 keys (asked: as many as calls: they expire)" in lines


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("soak_lost", lambda: judge(good()[0], Ledger(1, 1, 0, 0), watch())),
        ("soak_doubled", lambda: judge(good()[0], Ledger(2, 0, 1, 0), watch())),
        ("soak_differences", lambda: judge(good()[0], Ledger(2, 0, 0, 1), watch())),
        ("soak_unexpected_answers", lambda: judge(Promises(unexpected=["plain: 503"]), good()[1], watch())),
        ("soak_calls_not_made", lambda: judge(Promises(behind=1), good()[1], watch())),
        ("soak_leak_memory_growth", lambda: judge(*good(), watch(leak=leaking(memory=70)))),
        ("soak_leak_more_descriptors", lambda: judge(*good(), watch(leak=leaking(descriptors=1)))),
        ("soak_leak_restarts", lambda: judge(*good(), watch(leak=leaking(pid=1)))),
        ("soak_more_keys_o", lambda: judge(*good(), growing_keys())),
    ],
)
def test_what_is_broken_is_named(
    name: str, broken: Callable[[], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not broken()
    assert f"!!! NOT KEPT: {name}" in capsys.readouterr().err.splitlines()


def leaking(memory: int = 0, descriptors: int = 0, pid: int = 0) -> Seen:
    """A process that takes so much more a sample; `pid`: it is started again in the middle."""
    return Seen(
        [7 + pid * (n > SAMPLES // 2) for n in range(SAMPLES)],
        [100_000 + memory * n for n in range(SAMPLES)],
        [30 + descriptors * n for n in range(SAMPLES)],
    )


def growing_keys() -> Watch:
    seen = watch()
    seen.keys = [{"o": number} for number in range(SAMPLES)]
    return seen


def test_memory_of_a_few_minutes_is_told_but_not_judged() -> None:
    assert judge(*good(), watch(leak=leaking(memory=1_000)), seconds=JUDGED_FROM - 1)


def test_the_second_tenth_is_compared_with_the_last() -> None:
    assert growth([100.0] * 10 + [10.0] * 80 + [12.0] * 10) == (10.0, 12.0)
    assert growth([1.0, 2.0]) == (2.0, 2.0)
