"""Recorded tasks, asked of a release that runs apart: what it does is compared with what was recorded."""
