"""JSON to attrs classes and back."""
