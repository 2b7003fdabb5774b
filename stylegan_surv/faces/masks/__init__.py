"""Where face, head, person, background and skin are in a picture."""
