"""GEPA against the reference implementation, on a task whose law is known."""
