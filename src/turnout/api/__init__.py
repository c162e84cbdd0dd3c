"""The HTTP API: one file a resource. It checks who asks and what, calls a use case, and shows the answer."""
