"""What a method is handed: rows of latents, random numbers by law, and predictions of one or more models."""
