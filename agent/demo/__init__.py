"""The demonstration: synthetic patients of known fat fraction, an agent and an archive of its own."""
