"""What a forecast says, as a terminal shows it, as a page, and as JSON."""
