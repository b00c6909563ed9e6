"""What every station stands on and users of parts do not see: layouts, hooks, names and roles of parameters, lanes."""
