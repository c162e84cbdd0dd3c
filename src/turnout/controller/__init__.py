"""The only part that acts: observes, plans, applies."""
