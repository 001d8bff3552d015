"""Training and measuring models of structural faults."""
