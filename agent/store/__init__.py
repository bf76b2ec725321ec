"""Files that must survive a power cut: instances as received, and results as sent."""
