"""Training data for the examples and the demo."""
