"""What runs on torch: loading a base model, its processor and an adapter."""
