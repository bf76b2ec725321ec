"""Calling archives: associations, their faults by name, and C-FIND. What `deliver` and `retrieve` share."""
