"""The composition root: reads the settings, gives every room plain values, and supervises the processes."""
