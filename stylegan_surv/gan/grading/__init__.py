"""How good a generator is, and whether it copies its training photographs."""
