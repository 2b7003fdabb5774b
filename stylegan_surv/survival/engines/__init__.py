"""Risk models with one interface: elastic net, forests, DeepSurv, fusion; by name and on disk."""
