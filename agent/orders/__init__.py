"""Orders: whether a study's patient is the one whose order carries its accession number."""
