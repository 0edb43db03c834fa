"""Streams held open, a third of them left by their clients: nothing of them stays in the gateway (R16).

Few and short here; a thousand for a minute, with the claim about memory, by `make bench ARGS="--part hold"`.
"""

import asyncio
from contextlib import ExitStack

from benchmarks.hold_streams import hold, wait_until_at_most
from benchmarks.kit import descriptors
from benchmarks.model_streams import serving_models
from tests.gateway.kit import wait_for
from tests.gateway.language.kit import Models, add_model

STREAMS, SECONDS, PAUSE = 60, 2.0, 0.2
MODEL = "gpt-held"


def test_open_streams_leave_nothing_behind(models: Models) -> None:
    user, pid = models.user(), models.gateway.pid
    with ExitStack() as stack:
        url = stack.enter_context(serving_models())
        add_model(MODEL, (url, MODEL))
        wait_for(lambda: user.ask(model=MODEL, stream=True).status == 200)
        start = descriptors(pid)
        held = asyncio.run(
            hold(
                models.gateway.url,
                user.issued.clear,
                streams=STREAMS,
                seconds=SECONDS,
                model=MODEL,
                pause=PAUSE,
            )
        )
        assert (held.whole, held.cut, held.failed) == (42, 18, 0)
        rows = user.rows(STREAMS + 1)
    assert len(rows) == STREAMS + 1
    outcomes = [row["props"].get("outcome", "whole") for row in rows]
    assert 18 - outcomes.count("client_gone_drained") <= 2  # who leaves with the last piece was served
    user.assert_nothing_reserved()
    assert wait_until_at_most(start, pid, within=10) <= start
