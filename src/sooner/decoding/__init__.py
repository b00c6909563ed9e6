"""How a sequence model is sampled sooner, with nothing changed about what it writes."""
