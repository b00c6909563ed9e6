"""A race on a page while it runs: cells, curves, intervals as they narrow, an estimate, and a button that stops it."""
