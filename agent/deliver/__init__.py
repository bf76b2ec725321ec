"""Delivery: result objects leave for the archives, and count as delivered only when proved."""
