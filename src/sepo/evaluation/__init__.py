"""Evaluation: bounds on held-out data, how sequences differ, and exact answers where everything can be enumerated."""
