"""The gateway: the one way of agents to models and tools. Processes of its own, beside the server."""
