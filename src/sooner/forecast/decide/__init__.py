"""What to do about a forecast: how to spend a budget, what to scale, which schedule to run, what to measure."""
