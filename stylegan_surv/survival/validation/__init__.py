"""Folds, nested cross-validation and its out-of-fold results."""
