"""Generator, discriminator, encoder and the perceptual distance."""
