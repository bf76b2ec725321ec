"""The words and rules of the agent. Pure: no input or output, no clock, no third party."""
