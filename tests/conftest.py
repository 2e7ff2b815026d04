"""Settings of all tests."""

from hypothesis import settings

# A busy machine must not fail a property: how fast things are is measured in benchmarks/.
settings.register_profile("rollouts", deadline=None)
settings.load_profile("rollouts")
