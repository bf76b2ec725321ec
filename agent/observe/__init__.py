"""Logs, metrics and the scrubber that keeps patient data out of both."""
