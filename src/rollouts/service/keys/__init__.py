"""Who may ask the service for what: API keys with scopes, and the sealed keys of task apps."""

from rollouts.service.keys.access import require
from rollouts.service.keys.env_keys import EnvKey, EnvKeys
from rollouts.service.keys.model import SCOPES, ApiKey, Principal, Scope
from rollouts.service.keys.ring import KeyRing
from rollouts.service.keys.sealing import ServerKey, key_path

__all__ = ["SCOPES", "ApiKey", "EnvKey", "EnvKeys", "KeyRing", "Principal", "Scope", "ServerKey", "key_path", "require"]
