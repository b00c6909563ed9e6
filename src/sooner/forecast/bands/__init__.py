"""How wide bands have to be: usual errors of forecasts by how far they reach, and back-tests on the user's own rows."""
