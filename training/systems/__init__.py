"""Systems to compare: a backbone, attention, fusion and clinical data by configuration, cross-validated by patient."""
