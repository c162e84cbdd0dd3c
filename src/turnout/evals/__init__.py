"""Eval suites: what they consist of, running them beside a release in its sandbox, and the report."""
