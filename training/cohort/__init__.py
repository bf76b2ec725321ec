"""Patients to learn from and to be tested on: manifests, pictures, clinical variables, splits by patient."""
