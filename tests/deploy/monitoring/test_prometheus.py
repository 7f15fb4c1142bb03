"""The shipped Prometheus configuration is valid, and a real Prometheus finds every process of a gateway with it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from tests.prometheus import CONFIG, OPERATING_PORT, needs_prometheus, prometheus

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
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
    with operating_port() as port, prometheus(tmp_path, port) as prom:
        prom.until("up == 1", lambda found: len(found) == 4)
        prom.until("teal_worker_ready", lambda found: len(found) == 2)
        assert set(prom.by("teal_worker_ready", "job", "instance", "component", "version")) == {
            ("teal-worker", "digits-1-blue-0", "worker", "1"),
            ("teal-worker", "digits-2-green-0", "worker", "2"),
        }
        assert set(prom.by("teal_slot_info", "job", "instance")) == {("teal-control", "control")}
        assert set(prom.by("envoy_cluster_upstream_rq_total", "job", "instance")) == {("teal-envoy", "envoy")}


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
