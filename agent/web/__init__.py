"""The worklist page, the study page, the JSON API, health and metrics. Nothing here changes anything."""
