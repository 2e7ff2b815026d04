"""What a job may not ask of the server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rollouts.errors import ConfigError, DataError
from rollouts.service import ServiceSettings
from rollouts.service.jobs import JobRow, NativeRunner
from tests.service.conftest import settings_at
from tests.service.world import config, rows


async def prepare(settings: ServiceSettings, asked: dict[str, Any], *, inline: bool = True, given: Any = None) -> None:
    body = {"config": asked, **({"rows": given or rows()} if inline else {})}
    row = JobRow(id="pl_1", owner="o", kind="native", name="", status="queued", config=body, created_at=0.0)
    async with NativeRunner(settings).prepared(row):
        pass


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (config(score={"metric": "my.module:score"}), r"score\.metric.*allow_code"),
        (config(score={"metric": "regex", "pattern": "(a+)+$"}), r"score\.metric.*allow_code"),
        (config(environment={"name": "mcp", "options": {"command": ["sh"]}}), r"environment\.name.*allow_code"),
        (config(environment={"name": "my.module:tools"}), r"environment\.name.*allow_code"),
        (config(program={"path": "my.module:program"}, initial_prompt={"system": None, "user": None}), "program.path"),
        (config(policy={"base_url": "http://169.254.169.254/v1"}), r"policy\.base_url.*\[models\]"),
        (config(policy={"api_key_env": "AWS_SECRET_ACCESS_KEY"}), r"policy\.api_key_env"),
        (config(proposer={"extra": {"url": "x"}}), r"proposer\.extra"),
        (config(execution={"store": "/tmp/other.db"}), r"execution\.store"),
        (config(dataset={"data_dir": "/etc"}), r"dataset\.data_dir"),
        (config(dataset={"path": "rows.csv"}), "given twice"),
        (config(dataset={"test_path": "tickets", "format": "csv"}), r"dataset\.test_path.*format of its own"),
        (config(score={"metric": "json_schema", "schema_path": "/etc/passwd"}), r"score\.schema_path"),
        (config(score={"metric": "json_schema", "options": {"schema_path": "x"}}), r"score\.options\.schema_path"),
        (config(mipro={"num_iteration": 3}), "did you mean"),
        ({}, "prompt_learning"),
    ],
)
async def test_what_a_job_may_not_ask_for(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        await prepare(settings_at(tmp_path), asked)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.csv", "link.csv", "a/../../secret.csv", "http://127.0.0.1/x.csv", "hf:a/b"]
)
@pytest.mark.parametrize("key", ["path", "train_path", "test_path"])
async def test_files_are_named_below_the_data_dir_only(tmp_path: Path, key: str, path: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.csv").write_text("text,label\n")
    (tmp_path / "data" / "link.csv").symlink_to(tmp_path / "secret.csv")
    asked = config(dataset={key: path, **({"path": "rows.csv"} if key == "test_path" else {})})
    with pytest.raises(ConfigError, match=rf"dataset\.{key}"):
        await prepare(settings_at(tmp_path, data_dir=tmp_path / "data"), asked, inline=False)


@pytest.mark.parametrize("key", ["train_path", "val_path", "test_path"])
async def test_with_inline_rows_other_files_are_named_below_the_data_dir_too(tmp_path: Path, key: str) -> None:
    (tmp_path / "data").mkdir()
    for file in (tmp_path / "secret.jsonl", tmp_path / "data" / "own.jsonl"):
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows("other")))
    for settings in (settings_at(tmp_path), settings_at(tmp_path, data_dir=tmp_path / "data")):
        for path in (str(tmp_path / "secret.jsonl"), "../secret.jsonl", "hf:a/b", "http://127.0.0.1/x.jsonl"):
            with pytest.raises(ConfigError, match=rf"dataset\.{key}"):
                await prepare(settings, config(dataset={key: path}))
    if key != "train_path":  # which inline rows take the place of
        await prepare(settings_at(tmp_path, data_dir=tmp_path / "data"), config(dataset={key: "own.jsonl"}))


async def test_a_refusal_of_inline_rows_shows_no_path_of_the_server(tmp_path: Path) -> None:
    wrong: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
        ([{"text": "a", "label": ""}, *rows()], config(), r"^rows, line 1, column 'label'"),
        (rows(), config(dataset={"ground_truth": "none"}), "^rows, column 'none'"),
        (rows(), config(dataset={"format": "tsv"}), "^rows"),
    ]
    for given, asked, said in wrong:
        with pytest.raises(DataError, match=said) as refused:
            await prepare(settings_at(tmp_path), asked, given=given)
        assert str(tmp_path) not in str(refused.value)
        shutil.rmtree(settings_at(tmp_path).results_dir)


async def test_without_a_data_dir_there_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no data_dir"):
        await prepare(settings_at(tmp_path), config(dataset={"path": "rows.csv"}), inline=False)


async def test_what_the_settings_allow(tmp_path: Path) -> None:
    settings = settings_at(tmp_path, allow_code=True, allow_endpoints=True)
    asked = config(
        score={"metric": "regex", "pattern": "^a"}, policy={"base_url": "http://127.0.0.1:9/v1", "extra": {"a": 1}}
    )
    await prepare(settings, asked)
