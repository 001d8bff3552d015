"""Train an open multimodal model to judge text-to-image images as people do, and measure how well any judge agrees."""

__version__ = "0.1.0"
