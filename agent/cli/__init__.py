"""The command line: parse, call, exit code."""

from agent.cli.entry import cli, main

__all__ = ["cli", "main"]
