"""Cox's model: ridge path, partial likelihood, Newton's method."""
