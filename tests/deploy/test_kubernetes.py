"""deploy/kubernetes/ without a cluster: true to the API's schemas, to itself, to the settings and to the image."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import kubernetes_validate
import pytest
import yaml
from pydantic import SecretStr

from worker.app import _STOP_SECONDS
from worker.settings import Settings, env_name

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION: Final = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS: Final[dict[str, dict[str, Any]]] = {
    path.name: yaml.safe_load(path.read_text())
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
}
CONFIG: Final[dict[str, str]] = MANIFESTS["configmap.yaml"]["data"]
WORKLOADS: Final = ["statefulset.yaml", "topics-job.yaml"]
STATEFUL_SET: Final = MANIFESTS["statefulset.yaml"]["spec"]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()

Manifest = dict[str, Any]


def pod(name: str) -> Manifest:
    spec: Manifest = MANIFESTS[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> Manifest:
    (only,) = pod(name)["containers"]
    assert isinstance(only, dict)
    return only


def environment(name: str) -> Iterator[tuple[str, Manifest]]:
    """The variables of a workload with where their values come from: those of the ConfigMap, then its own."""
    (source,) = container(name)["envFrom"]
    assert source == {"configMapRef": {"name": MANIFESTS["configmap.yaml"]["metadata"]["name"]}}
    for variable, value in CONFIG.items():
        yield variable, {"value": value}
    for each in container(name)["env"]:
        yield each["name"], each["valueFrom"]


# ---------------------------------------------------------------------- the API


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_fits_the_schema_of_its_kind(name: str, version: str) -> None:
    assert kubernetes_validate.validate(MANIFESTS[name], version, strict=True) == version


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replicas"), "two"),
        (("spec", "template", "spec", "terminationGracePeriodSecond"), 30),
        (("spec", "template", "spec", "containers", 0, "readinessProbe", "exec"), {"args": ["health"]}),
        (("spec", "template", "spec", "securityContext", "runAsNonRoot"), "yes"),
        (("spec", "volumeClaimTemplates", 0, "spec", "accessModes"), "ReadWriteOnce"),
    ],
)
def test_the_schemas_refuse_what_is_wrong(path: tuple[str | int, ...], value: object) -> None:
    manifest: Any = copy.deepcopy(MANIFESTS["statefulset.yaml"])
    at = manifest
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_kustomize_takes_all_manifests_and_none_that_is_not_there() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted(MANIFESTS)


# ---------------------------------------------------------------------- settings and secrets


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_variable_is_a_setting_and_together_they_are_accepted(name: str) -> None:
    values = {}
    for variable, source in environment(name):
        assert variable not in values, f"{variable} is given twice"
        assert variable in {env_name(field) for field in Settings.model_fields}
        values[variable] = source.get("value", "session-worker-0")
    given = {variable.removeprefix("WORKER_").lower(): value for variable, value in values.items()}
    settings = Settings.model_validate(given)
    assert settings.security_protocol == "SASL_SSL"


@pytest.mark.parametrize("name", WORKLOADS)
def test_secrets_are_only_referred_to(name: str) -> None:
    assert not [manifest for manifest in MANIFESTS.values() if manifest["kind"] == "Secret"]
    sources = dict(environment(name))
    for field, declared in Settings.model_fields.items():
        if SecretStr in get_args(declared.annotation) and env_name(field) in sources:
            assert set(sources[env_name(field)]) == {"secretKeyRef"}
    assert "secretKeyRef" in sources["WORKER_SASL_PASSWORD"]


def test_the_topics_are_created_as_another_user_than_the_workers() -> None:
    worker, operator = (dict(environment(name))["WORKER_SASL_USERNAME"]["secretKeyRef"]["name"] for name in WORKLOADS)
    assert worker != operator


def test_the_readme_makes_every_secret_that_is_referred_to() -> None:
    named = {
        each["valueFrom"]["secretKeyRef"]["name"]
        for name in WORKLOADS
        for each in container(name)["env"]
        if "secretKeyRef" in each["valueFrom"]
    }
    named |= {volume["secret"]["secretName"] for name in WORKLOADS for volume in pod(name)["volumes"]}
    created = set(re.findall(r"kubectl create secret generic (\S+)", (FOLDER / "README.md").read_text()))
    assert created == named


def test_a_pods_name_is_its_identity_in_the_group() -> None:
    assert dict(environment("statefulset.yaml"))["WORKER_INSTANCE_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    # Pods share the ConfigMap: whatever tells them apart may not stand there.
    assert "WORKER_INSTANCE_ID" not in CONFIG


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_variables_of_services_are_mistaken_for_settings(name: str) -> None:
    assert pod(name)["enableServiceLinks"] is False


# ---------------------------------------------------------------------- the image and its commands


def test_the_image_is_the_one_that_docker_compose_builds() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    (built,) = {service["image"] for service in compose["services"].values() if "build" in service}
    default = re.fullmatch(r"\$\{WORKER_IMAGE:-(.+)\}", built)
    assert default is not None
    for name in WORKLOADS:
        assert container(name)["image"] == default[1]
    (image,) = KUSTOMIZATION["images"]
    assert f"{image['newName']}:{image['newTag']}" == default[1]
    assert image["name"] == default[1].partition(":")[0]


@pytest.mark.parametrize(
    "arguments",
    [
        container("statefulset.yaml")["args"],
        container("topics-job.yaml")["args"],
        container("statefulset.yaml")["readinessProbe"]["exec"]["command"][3:],
    ],
    ids=" ".join,
)
def test_every_command_is_one(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "worker", *arguments, "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python -m worker {' '.join(arguments)}".encode() in done.stdout


def test_the_probe_is_the_images_own_health_check() -> None:
    probe = container("statefulset.yaml")["readinessProbe"]
    command = ", ".join(f'"{word}"' for word in probe["exec"]["command"])
    assert f"CMD [{command}]" in DOCKERFILE
    assert "livenessProbe" not in container("statefulset.yaml")


@pytest.mark.parametrize("name", WORKLOADS)
def test_nothing_runs_with_more_rights_than_it_needs(name: str) -> None:
    spec, only = pod(name), container(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert f"USER {spec['securityContext']['runAsUser']}\n" in DOCKERFILE
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in only["resources"]["limits"]


# ---------------------------------------------------------------------- volumes


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_mount_has_its_volume_and_every_volume_is_mounted(name: str) -> None:
    mounted = {mount["name"] for mount in container(name)["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in MANIFESTS[name]["spec"].get("volumeClaimTemplates", ())}
    assert mounted == {volume["name"] for volume in pod(name)["volumes"]} | claims


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_authoritys_file_is_what_the_secret_puts_there(name: str) -> None:
    (secret,) = [volume["secret"] for volume in pod(name)["volumes"]]
    (mount,) = [mount for mount in container(name)["volumeMounts"] if mount["name"] == "kafka-ca"]
    assert mount["readOnly"] is True
    assert CONFIG["WORKER_SSL_CAFILE"] in {f"{mount['mountPath']}/{item['path']}" for item in secret["items"]}


def test_the_state_directory_lies_below_a_volume_of_the_pod_that_its_user_may_write() -> None:
    (claim,) = STATEFUL_SET["volumeClaimTemplates"]
    (mount,) = [m for m in container("statefulset.yaml")["volumeMounts"] if m["name"] == claim["metadata"]["name"]]
    assert "readOnly" not in mount
    # Below, not at it: the worker refuses a directory with something else in it, such as lost+found.
    assert Path(mount["mountPath"]) in Path(CONFIG["WORKER_STATE_DIR"]).parents
    security = pod("statefulset.yaml")["securityContext"]
    assert security["fsGroup"] == security["runAsGroup"]


# ---------------------------------------------------------------------- numbers and names that belong together


def test_there_are_not_more_workers_than_partitions() -> None:
    assert 1 < STATEFUL_SET["replicas"] <= int(CONFIG["WORKER_PARTITIONS"])


def test_a_pod_has_more_time_to_stop_than_the_worker_takes() -> None:
    assert pod("statefulset.yaml")["terminationGracePeriodSeconds"] >= 2 * _STOP_SECONDS


def test_a_drain_of_nodes_takes_one_worker_at_a_time() -> None:
    assert MANIFESTS["poddisruptionbudget.yaml"]["spec"]["maxUnavailable"] == 1


def test_what_selects_the_workers_selects_them_and_not_the_job() -> None:
    labels = STATEFUL_SET["template"]["metadata"]["labels"]
    selectors = [
        STATEFUL_SET["selector"]["matchLabels"],
        MANIFESTS["service.yaml"]["spec"]["selector"],
        MANIFESTS["poddisruptionbudget.yaml"]["spec"]["selector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod("statefulset.yaml")["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 5
    of_job = MANIFESTS["topics-job.yaml"]["spec"]["template"]["metadata"]["labels"]
    for selector in selectors:
        assert selector == labels
        assert not selector.items() <= of_job.items()


def test_the_stateful_sets_service_is_the_headless_one() -> None:
    service = MANIFESTS["service.yaml"]
    assert STATEFUL_SET["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
