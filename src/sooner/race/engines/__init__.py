"""The engines that run the cells of a race: processes on this machine, or a Ray cluster."""
