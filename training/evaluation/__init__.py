"""What systems predicted on patients left out, measured and shown: figures, intervals, subgroups, one report."""
