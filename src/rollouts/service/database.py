"""The tables of the service. They stand in the store's schema, since one database has one history of migrations."""

from rollouts.store.schema import api_keys, env_keys, events, jobs

__all__ = ["api_keys", "env_keys", "events", "jobs"]
