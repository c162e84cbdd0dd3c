"""The proxy in the callers' path: what it is told, how it runs, what it records."""
