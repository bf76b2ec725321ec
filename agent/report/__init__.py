"""Report stage: a score or a refusal becomes one Structured Report and the pictures beside it."""
