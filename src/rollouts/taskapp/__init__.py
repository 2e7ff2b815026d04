"""Serve a task over HTTP, and drive a task that is served."""
