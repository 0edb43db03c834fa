"""`python -m stripe_standin --port 12111 --state stripe.json --webhook http://127.0.0.1:8000/webhooks/stripe --webhook-secret whsec_x`"""

import argparse
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path

from stripe_standin import clock
from stripe_standin.resources.webhooks import give_endpoint
from stripe_standin.server import Server
from stripe_standin.world import Judge, World


def main() -> int:
    options = _options()
    world = World(deterministic=options.deterministic, judge=_judge(options.judge))
    state = Path(options.state) if options.state else None
    if state and state.exists():
        world.store.load(state)
    if options.webhook:
        give_endpoint(world, options.webhook, options.webhook_secret)
    if options.thin_webhook:
        world.hooks.thin = (options.thin_webhook, options.thin_webhook_secret or options.webhook_secret)
    try:
        server = Server(options.port, world)
    except OSError as error:
        print(f"stripe-standin: cannot listen on 127.0.0.1:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    with world.lock:
        world.hooks.resume()
        clock.resume(world)
    _serve(server, world, state)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stripe_standin", description="A stand-in for Stripe on loopback."
    )
    parser.add_argument("--port", type=int, default=12111, help="0 takes a free one; the address is printed")
    parser.add_argument("--state", help="file that keeps everything over a restart")
    parser.add_argument("--webhook", help="address that gets every event")
    parser.add_argument("--webhook-secret", default="whsec_standin")
    parser.add_argument("--thin-webhook", help="address that gets thin events (bad meter events)")
    parser.add_argument("--thin-webhook-secret", default="")
    parser.add_argument("--deterministic", action="store_true", help="ids count up instead of being random")
    parser.add_argument("--judge", help="module:function that checks every request and answer")
    return parser.parse_args()


def _judge(name: str | None) -> Judge | None:
    if not name:
        return None
    module, _, function = name.partition(":")
    judge: Judge = getattr(import_module(module), function)
    return judge


def _serve(server: Server, world: World, state: Path | None) -> None:
    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    ticker = clock.Ticker(world)
    ticker.start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"stripe-standin: {world.base}", flush=True)
    while not stopped.wait(0.5):
        _save(world, state)
    ticker.stop()
    server.shutdown()
    world.hooks.close()
    _save(world, state)


def _save(world: World, state: Path | None) -> None:
    with world.lock:
        if state and world.store.dirty:
            world.store.save(state)
            world.store.dirty = False


if __name__ == "__main__":
    sys.exit(main())
