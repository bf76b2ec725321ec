"""The audit trail (PS3.15 Annex A.5): its messages, the chained file, what is written, and where it is sent."""
