"""Settings of all tests."""

import signal

from hypothesis import settings

# A busy machine must not fail a property: how fast things are is measured in benchmarks/.
settings.register_profile("rollouts", deadline=None)
settings.load_profile("rollouts")

# What a shell starts in the background ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
