"""Signed statements about releases: what they say, their envelopes, the keys, and what a ring may demand of them."""
