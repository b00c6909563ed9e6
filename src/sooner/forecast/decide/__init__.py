"""What to do about a forecast: how to spend a budget, which procedure to scale, which schedule to run, what to measure."""
