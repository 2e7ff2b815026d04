"""What must be true of the project as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("openai", "anthropic", "litellm", "optuna", "scipy", "numpy", "sqlalchemy", "aiohttp", "pydantic", "xllamacpp")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_pulls_no_heavy_library() -> None:
    loaded = run("import sys, rollouts; print(' '.join(sorted({n.partition('.')[0] for n in sys.modules})))").split()
    assert not set(HEAVY) & set(loaded)


def test_import_is_fast() -> None:
    code = "import time; t = time.process_time(); import rollouts, rollouts.dtypes; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(5)) < 0.150


def test_every_public_name_exists() -> None:
    import rollouts

    for name in rollouts.__all__:
        assert getattr(rollouts, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = rollouts.nonsense


def test_files_in_git_are_sources() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("not a git checkout")
    names = done.stdout.split("\n")
    assert not [
        name for name in names if re.search(r"(\.pyc|\.egg-info|\.lock|\.gguf|\.db)$|^(build|dist|results)/", name)
    ]
    assert not any("shared/data" in name for name in names)


def test_no_source_names_a_machine() -> None:
    pattern = re.compile(r"/(?:root|home/\w+|tmp/w|work)/")
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "pyproject.toml"]:
        assert not pattern.search(path.read_text(encoding="utf-8")), path


def test_no_file_is_too_long() -> None:
    for path in ROOT.glob("src/**/*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path


def test_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "rollouts-optimizer"
    assert project["scripts"]["rollouts"].startswith("rollouts.cli")
    assert {"local", "anthropic", "dev", "all"} <= set(project["optional-dependencies"])
    import rollouts

    assert project["version"] == rollouts.__version__
