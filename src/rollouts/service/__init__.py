"""The HTTP service: jobs, keys, events, the interceptor, and routes that other SDKs speak."""
