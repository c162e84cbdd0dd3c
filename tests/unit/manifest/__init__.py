"""Tests of `turnout.toml`: schema, loader, config component, example, detection."""
