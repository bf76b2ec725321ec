"""From settings to what the rooms are given: nothing here runs by itself."""
