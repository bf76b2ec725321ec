"""From an experiment's file to a bundle: fit, export, calibrate, evaluate, card."""
