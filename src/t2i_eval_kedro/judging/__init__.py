"""Judges of images: protocols (what is asked), backends (who answers) and the engine between them."""
