"""The doors: gateway and verify against the bare upstream; an endpoint guarded by Farebox in Django against the same endpoint
guarded by djangorestframework-api-key with a Redis counter. One worker each."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.kit import (
    OWNER_KEY,
    Target,
    sell,
    serving,
    serving_gateway,
    serving_upstream,
    sign_up,
    take_turns,
    tell,
)
from deploy.local.ports import free_port


def measure(seconds: float) -> None:
    """Print the figures."""
    with ExitStack() as stack:
        targets = _start(stack)
        take_turns(targets, seconds)
        for target in targets:
            target.report()
    upstream, gateway, verify, drf, package, bare = (target.calls for target in targets)
    tell("gateway_vs_upstream", gateway / upstream, "ratio", digits=3)
    tell("verify_vs_bare_asgi", verify / upstream, "ratio", digits=3, asked="at least 0.4")
    tell("drf_vs_api_key_package", drf / package, "ratio", digits=2)
    tell("drf_vs_api_key_package_no_health_checks", drf / bare, "ratio", digits=2)


@contextmanager
def _serving_web(**environment: str) -> Iterator[tuple[str, int]]:
    """The guarded endpoint: its address and process."""
    url = f"http://127.0.0.1:{free_port()}"
    argv = ["gunicorn", "benchmarks.peer.wsgi:application", "--bind", url.removeprefix("http://")]
    argv += ["--worker-class", "gthread", "--threads", "8", "--log-level", "warning", "--no-control-socket"]
    with serving(argv, f"{url}/peer", **environment) as pid:
        yield url, pid


def _peer_key() -> str:
    from django.core.management import call_command
    from rest_framework_api_key.models import APIKey

    call_command("migrate", "rest_framework_api_key", verbosity=0)
    return str(APIKey.objects.create_key(name="bench")[1])


def _start(stack: ExitStack) -> list[Target]:
    """Start everything; in the order of the report."""
    upstream_url, upstream = stack.enter_context(serving_upstream())
    sell("bench", upstream_url)
    key, peer_key = sign_up("doors"), _peer_key()
    gateway_url, gateway = stack.enter_context(serving_gateway())
    web_url, web = stack.enter_context(_serving_web())
    bare_url, bare = stack.enter_context(_serving_web(BENCH_HEALTH_CHECKS="0"))
    bearer, api_key = {"Authorization": f"Bearer {key}"}, {"Authorization": f"Api-Key {peer_key}"}
    owner = {"Authorization": f"Bearer {OWNER_KEY}", "Content-Type": "application/json"}
    question = f'{{"key":"{key}","product":"bench","path":"/answer"}}'
    return [
        Target("upstream", f"{upstream_url}/answer", {}, upstream),
        Target("gateway_before_asgi", f"{gateway_url}/bench/answer", bearer, gateway),
        Target("verify", f"{gateway_url}/api/keys/verify", owner, gateway, question),
        Target("drf", f"{web_url}/ours", bearer, web),
        Target("api_key_package", f"{web_url}/peer", api_key, web),
        Target("api_key_package_no_health_checks", f"{bare_url}/peer", api_key, bare),
    ]
