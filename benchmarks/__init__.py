"""Measurements. Each module prints a table, and ends with 0 when its figures are reached."""
