"""Releases as content: digests, deterministic archives, and stores that verify what they give out."""
