"""The distillation engine: what a method is, the loop that runs it, its noise and its adapters."""
