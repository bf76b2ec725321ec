"""Frames that the bundle's members learn from: rendered phantoms, and real frames edited without labels."""
