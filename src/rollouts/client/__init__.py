"""A small client of the service, sync and async."""
