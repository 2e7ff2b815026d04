"""`rollouts task-app`."""

from __future__ import annotations

import secrets
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

from rollouts.cli import words
from rollouts.errors import ConfigError

_EXTRA = ("fastapi", "uvicorn", "psutil")


def serve(name: str, host: str, port: int | None, *, data_dir: Path | None, public: bool) -> int:
    """Serves the shipped app `name` until a signal comes; a key is made where the environment names none."""
    if missing := [module for module in _EXTRA if find_spec(module) is None]:
        raise ConfigError(f"task apps need {', '.join(missing)}: pip install 'rollouts-optimizer[serve]'")
    import uvicorn

    from rollouts.taskapp.auth import KEY_VARIABLE, keys_of
    from rollouts.taskapp.ports import listen
    from rollouts.taskapp.shipped import shipped
    from rollouts.taskapp.tunnel import tunnel

    chosen, console = shipped(name), words.make_console()
    keys = keys_of()
    made = () if keys else (f"env_{secrets.token_hex(16)}",)
    app = chosen.make(data_dir, keys or made)
    with listen(host, chosen.port if port is None else port) as listener:
        port = listener.getsockname()[1]
        with tunnel(port) if public else nullcontext(f"http://{host}:{port}") as address:
            for key in made:
                console.print(f"{KEY_VARIABLE}={key}  (made for this start; set the variable to use one of yours)")
            console.print(f"{name} at {address}; Ctrl-C ends it", soft_wrap=True)
            console.file.flush()
            uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
    return 0
