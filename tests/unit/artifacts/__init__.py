"""Tests of releases as content."""
