"""What docker-compose.yml and the Dockerfile promise, read without Docker; tests/docker/ runs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from worker import __version__
from worker.app import _STOP_SECONDS
from worker.settings import Settings, env_name

ROOT: Final = Path(__file__).parents[1]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = [name for name, service in SERVICES.items() if "build" in service]
WORKERS: Final = ["worker-1", "worker-2"]
# One instruction per element, continued lines joined.
DOCKERFILE: Final = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in DOCKERFILE if line.startswith(f"{name} ")]


def final_stage() -> list[str]:
    return DOCKERFILE[max(at for at, line in enumerate(DOCKERFILE) if line.startswith("FROM ")) :]


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def test_there_are_two_workers_and_what_they_need() -> None:
    assert set(SERVICES) == {"kafka", "topics", *WORKERS, "traffic", "cli"}
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"kafka", "topics", *WORKERS}
    assert SERVICES["traffic"]["profiles"] == ["demo"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_built_here_or_is_a_published_one_of_one_version(name: str) -> None:
    image = SERVICES[name]["image"]
    if name in OURS:
        assert image == "${WORKER_IMAGE:-session-worker:local}"
        assert SERVICES[name]["build"] == "."
    else:
        assert re.fullmatch(r"apache/kafka:4\.\d+\.\d+", image)


def test_the_dockerfile_builds_on_the_published_python_image_in_two_stages() -> None:
    assert [line.split()[0] for line in instructions("FROM")] == ["python:3.11-slim"] * 2
    assert instructions("COPY")[-2:] == ["--from=build /opt/venv /opt/venv", "--from=build /app /app"]


def test_packages_are_installed_as_hashed_wheels_outside_the_final_stage() -> None:
    (install,) = [line for line in instructions("RUN") if "pip" in line]
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    assert "-r requirements.txt" in install
    assert not [line for line in final_stage() if re.search(r"\b(pip|apt-get|curl)\b", line)]


def test_the_image_runs_the_worker_as_nobody_special_and_says_its_version() -> None:
    final = final_stage()
    assert [int(line.split()[1]) for line in final if line.startswith("USER ")] > [0]
    assert 'ENTRYPOINT ["python", "-m", "worker"]' in final
    assert 'CMD ["run"]' in final
    assert f'org.opencontainers.image.version="{__version__}"' in "\n".join(final)
    assert any(line.startswith("HEALTHCHECK ") and '"worker", "health"' in line for line in final)


def test_the_build_sees_nothing_but_what_the_image_holds() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {"!requirements.txt", "!schemas", "!worker"}


@pytest.mark.parametrize("name", SERVICES)
def test_host_ports_are_bound_to_this_machine_and_can_be_changed(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port), port


def test_kafka_tells_clients_on_the_host_the_port_they_may_use() -> None:
    published = SERVICES["kafka"]["ports"][0].removesuffix(":29092")
    assert f"HOST://{published}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


@pytest.mark.parametrize("name", OURS)
def test_containers_of_the_worker_can_write_nothing_but_state(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    writable = [*service.get("volumes", []), *service.get("tmpfs", [])]
    assert all(re.fullmatch(r"([a-z0-9-]+:)?/state(:.*)?", place) for place in writable)


def test_each_worker_keeps_its_state_on_a_volume_of_its_own() -> None:
    volumes = [SERVICES[name]["volumes"] for name in (*WORKERS, "kafka")]
    names = [volume.partition(":")[0] for each in volumes for volume in each]
    assert len(names) == len(set(names)) == 3
    assert set(names) == set(COMPOSE["volumes"])
    assert f"{env_name('state_dir')}=/state" in " ".join(instructions("ENV"))


@pytest.mark.parametrize("name", WORKERS)
def test_a_stop_gives_a_worker_more_time_than_it_takes(name: str) -> None:
    assert seconds(SERVICES[name]["stop_grace_period"]) > _STOP_SECONDS
    assert "stop_signal" not in SERVICES[name]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_workers_start_when_the_topics_are_there_and_topics_when_kafka_answers() -> None:
    for name in WORKERS:
        assert SERVICES[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
        assert "healthcheck" not in SERVICES[name], "the image's own is to be used"
    assert SERVICES["topics"]["command"] == ["topics", "create"]
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert "--bootstrap-server" in SERVICES["kafka"]["healthcheck"]["test"]


def test_settings_in_both_files_exist() -> None:
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / "Dockerfile").read_text()
    known = {env_name(field) for field in Settings.model_fields} | {"WORKER_IMAGE"}
    assert set(re.findall(r"\bWORKER_[A-Z_]+", text)) <= known


def test_no_file_of_the_project_knows_a_stand_in() -> None:
    for name in ("docker-compose.yml", "Dockerfile", ".dockerignore"):
        assert "stand" not in re.sub(r"[\s-]", "", (ROOT / name).read_text().lower())
