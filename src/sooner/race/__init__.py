"""The referee: tuning, seeds, statistics, workers and the journal of a race."""
