"""Commands that race: any program that takes a seed and prints, or writes, a step and a metric."""
