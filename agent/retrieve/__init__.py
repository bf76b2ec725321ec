"""Retrieval: what an archive holds of a study, listed by C-FIND and fetched by C-GET or C-MOVE."""
