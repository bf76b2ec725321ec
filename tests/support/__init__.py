"""What several suites use: a real agent process, and studies to send it."""
