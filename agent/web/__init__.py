"""The worklist page, the study page, the JSON API, health and metrics.

Nothing here changes anything but by a confirmed form: work items through the commands, and readers' grades.
"""
