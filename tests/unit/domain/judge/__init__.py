"""The judge of canaries."""
