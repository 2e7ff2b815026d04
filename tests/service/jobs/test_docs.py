"""docs/service.md names every route and every setting."""

from __future__ import annotations

from pathlib import Path

from rollouts.service import ServiceSettings, create_app

PAGE = (Path(__file__).parents[3] / "docs" / "service.md").read_text(encoding="utf-8")


def test_every_setting_is_written_down() -> None:
    assert [name for name in ServiceSettings.model_fields if f"| `{name}` |" not in PAGE] == []


def test_every_route_is_written_down() -> None:
    routes = [
        f"`{method.upper()} {path}"
        for path, methods in create_app().openapi()["paths"].items()
        for method, route in methods.items()
        if {"jobs", "keys", "service"} & set(route["tags"])
    ]
    assert len(routes) > 12
    assert [route for route in routes if route not in PAGE] == []
