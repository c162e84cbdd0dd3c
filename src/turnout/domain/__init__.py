"""The pure core: frozen values and decisions. No I/O, no clock, no randomness."""
