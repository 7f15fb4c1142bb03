"""What the manifests and the Dockerfile claim, read from the files; nothing here runs a container."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.worker import PATH_LIVE
from deploy.cli.options import DEFAULT_ADMIN_PORT, DEFAULT_PORT

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VOLUME = "/var/lib/teal"
USER = 10001


def documents() -> list[dict[str, Any]]:
    listed = yaml.safe_load((K8S / "kustomization.yaml").read_text())["resources"]
    return [document for name in listed for document in yaml.safe_load_all((K8S / name).read_text())]


def only(kind: str, name: str = "teal") -> dict[str, Any]:
    (found,) = [d for d in documents() if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = only("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (gateway,) = pod()["containers"]
    return gateway


def test_every_manifest_is_listed_and_everything_is_in_the_namespace():
    listed = set(yaml.safe_load((K8S / "kustomization.yaml").read_text())["resources"])
    assert listed == {p.name for p in K8S.glob("*.yaml")} - {"kustomization.yaml"}
    names = {d["metadata"].get("namespace") for d in documents() if d["kind"] != "Namespace"}
    assert names == {only("Namespace")["metadata"]["name"]} == {"teal"}


def test_the_namespace_enforces_restricted_pods_and_this_pod_is_one():
    assert only("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    security = pod()["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["fsGroup"] == USER
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_no_token_of_the_cluster_reaches_the_pod():
    assert only("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["serviceAccountName"] == "teal"


def test_one_home_has_one_gateway():
    spec = only("Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    assert only("PersistentVolumeClaim", "teal-home")["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_everything_that_is_written_has_a_volume():
    mounts = {m["name"]: m["mountPath"] for m in container()["volumeMounts"]}
    assert mounts == {"home": VOLUME, "tmp": "/tmp"}
    assert container()["workingDir"] == VOLUME, "the default home lies in the working directory"
    volumes = {v["name"]: v for v in pod()["volumes"]}
    assert volumes.keys() == mounts.keys()
    assert volumes["home"]["persistentVolumeClaim"]["claimName"] == "teal-home"
    assert "sizeLimit" in volumes["tmp"]["emptyDir"]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_the_port_that_the_kubelet_can_reach(probe: str):
    assert container()[probe]["httpGet"] == {"path": PATH_LIVE, "port": "predictions"}


def test_liveness_is_more_patient_than_the_restart_of_envoy():
    liveness, readiness = container()["livenessProbe"], container()["readinessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= 10


def test_the_grace_covers_the_announcement_and_the_longest_drain():
    (_, seconds) = container()["lifecycle"]["preStop"]["exec"]["command"]
    drain = int(re.search(r"^DRAIN_SECONDS = (\d+)", (ROOT / "deploy/control.py").read_text(), re.MULTILINE)[1])  # type: ignore[index]
    assert int(seconds) + drain < pod()["terminationGracePeriodSeconds"]


def test_resources_are_asked_for_and_memory_is_bounded():
    resources = container()["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert "memory" in resources["limits"]


def test_ports_agree_from_the_command_line_to_the_service():
    arguments = container()["args"]
    assert arguments[arguments.index("--port") + 1] == str(DEFAULT_PORT)
    assert arguments[arguments.index("--admin-port") + 1] == str(DEFAULT_ADMIN_PORT)
    assert arguments[0] == "up"
    assert container()["ports"] == [{"name": "predictions", "containerPort": DEFAULT_PORT}]
    service = only("Service")["spec"]
    assert service["ports"] == [{"name": "predictions", "port": 80, "targetPort": "predictions", "protocol": "TCP"}]
    labels = only("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        service["selector"],
        only("Deployment")["spec"]["selector"]["matchLabels"],
        only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only("NetworkPolicy", "predictions")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_operating_port_is_not_reachable_from_outside_the_pod():
    exposed = [p["port"] for d in documents() if d["kind"] == "Service" for p in d["spec"]["ports"]]
    allowed = [p["port"] for rule in only("NetworkPolicy", "predictions")["spec"]["ingress"] for p in rule["ports"]]
    assert DEFAULT_ADMIN_PORT not in exposed + allowed
    assert allowed == [DEFAULT_PORT]


def test_a_model_has_no_way_out():
    denied = only("NetworkPolicy", "default-deny")["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "Egress" not in only("NetworkPolicy", "predictions")["spec"]["policyTypes"]


def test_a_node_can_be_drained():
    assert only("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_image_has_two_stages_one_user_and_a_health_check():
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert f"USER {USER}:{USER}" in DOCKERFILE
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("ENTRYPOINT")
    assert f"http://127.0.0.1:{DEFAULT_PORT}{PATH_LIVE}" in DOCKERFILE
    assert 'ENTRYPOINT ["teal"]\nCMD ["up", ' in DOCKERFILE
    assert f"WORKDIR {VOLUME}\nVOLUME {VOLUME}\n" in DOCKERFILE


def test_nothing_is_installed_without_a_hash():
    installs = [line for line in DOCKERFILE.splitlines() if "pip install" in line]
    assert ["--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs] == [True] * 2
    lock = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^setuptools==", lock, re.MULTILINE), "the build back end must come out of the lock"


def test_the_build_sees_what_it_copies_and_nothing_else():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    seen = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        word.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    }
    assert "*" in ignore
    assert copied == seen
    assert all((ROOT / name).exists() for name in copied)
