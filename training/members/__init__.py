"""The bundle's members: trunk, depth profile, attention, heads, and how they are fitted."""
