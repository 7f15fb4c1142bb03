"""The shipped Prometheus configuration is valid, and a real Prometheus finds every process of a gateway with it."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import yaml

from tests.deploy.fleet.gear import LIMIT

CONFIG = Path(__file__).parents[3] / "deploy" / "monitoring" / "prometheus.yml"
OPERATING_PORT = "127.0.0.1:8090"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)"
)


@needs_promtool
def test_promtool_accepts_the_configuration():
    found = subprocess.run(["promtool", "check", "config", str(CONFIG)], capture_output=True, text=True, check=False)  # noqa: S607
    assert found.returncode == 0, found.stderr


def test_only_the_operating_port_of_this_machine_is_scraped():
    config = yaml.safe_load(CONFIG.read_text())
    addresses = [t for job in config["scrape_configs"] for s in job.get("static_configs", []) for t in s["targets"]]
    addresses += [s["url"] for job in config["scrape_configs"] for s in job.get("http_sd_configs", [])]
    assert addresses == [OPERATING_PORT, OPERATING_PORT, f"http://{OPERATING_PORT}/api/v1/targets"]


@needs_prometheus
@pytest.mark.e2e
def test_a_real_prometheus_scrapes_each_process_once_under_its_own_name(tmp_path: Path):
    with operating_port() as port, prometheus(tmp_path, port) as ask:
        found = ask("teal_worker_ready", 2)
        assert {(s["job"], s["instance"], s["component"], s["version"]) for s in found} == {
            ("teal-worker", "digits-1-blue-0", "worker", "1"),
            ("teal-worker", "digits-2-green-0", "worker", "2"),
        }
        assert [(s["job"], s["instance"]) for s in ask("teal_slot_info", 1)] == [("teal-control", "control")]
        assert [(s["job"], s["instance"]) for s in ask("envoy_cluster_upstream_rq_total", 1)] == [
            ("teal-envoy", "envoy")
        ]
        assert len(ask("up == 1", 4)) == 4


PAGES = {
    "/metrics": 'teal_slot_info{model="digits",version="1",color="blue",role="live",digest="d"} 1\n',
    "/metrics/envoy": 'envoy_cluster_upstream_rq_total{model="digits",version="1",color="blue"} 7\n',
    "/metrics/workers/digits-1-blue-0": 'teal_worker_ready{model="digits",version="1",color="blue"} 1\n',
    "/metrics/workers/digits-2-green-0": 'teal_worker_ready{model="digits",version="2",color="green"} 1\n',
}


def target(here: str, path: str, component: str, instance: str) -> dict[str, object]:
    """As deploy/http/metrics.py gives it."""
    labels = {"__metrics_path__": path, "component": component, "instance": instance, "job": f"teal-{component}"}
    return {"targets": [here], "labels": labels}


@contextmanager
def operating_port() -> Iterator[int]:
    """An operating port with the pages of a gateway that runs two workers."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = self.headers["host"]
            workers = [target(here, path, "worker", path.rpartition("/")[2]) for path in PAGES if "/workers/" in path]
            others = [target(here, "/metrics", "control", "control"), target(here, "/metrics/envoy", "envoy", "envoy")]
            is_list = self.path == "/api/v1/targets"
            body = json.dumps(others + workers) if is_list else PAGES.get(self.path, "")
            self.send_response(200 if body else 404)
            self.send_header("content-type", "application/json" if is_list else "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """The test's output stays the test's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def prometheus(tmp_path: Path, port: int) -> Iterator[Callable[[str, int], list[dict[str, str]]]]:
    """A Prometheus with the shipped configuration, its operating port and its intervals changed for the test. Gives a
    function that asks a query until it has as many series as expected."""
    config = tmp_path / "prometheus.yml"
    text = CONFIG.read_text().replace(OPERATING_PORT, f"127.0.0.1:{port}")
    config.write_text(text.replace("5s", "1s").replace("4s", "1s"))
    with operating_port() as free:  # held only to learn a number nobody else uses
        own = f"127.0.0.1:{free}"
    process = subprocess.Popen(
        [  # noqa: S607
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={own}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(query: str, expected: int) -> list[dict[str, str]]:
        deadline, found = time.monotonic() + LIMIT, []
        while len(found) < expected and time.monotonic() < deadline:
            try:
                answer = httpx.get(f"http://{own}/api/v1/query", params={"query": query})
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            found = [series["metric"] for series in answer.json().get("data", {}).get("result", [])]
            if len(found) < expected:
                time.sleep(0.1)
        return found

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(timeout=LIMIT)
