"""Training: recipes, data, losses, loops and their exact resumption."""
