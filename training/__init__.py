"""Training of the steatosis models: phantoms, members, calibration, export to `inference.contract`."""
