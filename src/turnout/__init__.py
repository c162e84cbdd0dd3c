"""turnout: a self-hosted release platform for AI agents."""

__version__ = "0.1.0"
