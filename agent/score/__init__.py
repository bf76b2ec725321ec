"""Scoring: which frames may be scored, how they are decoded, and what the ensemble says of them."""
