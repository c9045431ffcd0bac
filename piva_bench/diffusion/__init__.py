"""The denoiser: text encoder, autoencoder, noise schedule, and a batched UNet with adapters per row."""
