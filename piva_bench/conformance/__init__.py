"""What every method has to keep to, as checks that can be run on any of them."""
