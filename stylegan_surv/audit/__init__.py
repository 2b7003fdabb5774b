"""What could fool the verdict: covariates beside the photograph, negative controls, pictures, stability."""
