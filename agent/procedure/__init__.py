"""Unified Procedure Steps (PS3.4 Annex CC): our work items offered to others, and others' steps performed by us."""
