"""Models of structural faults: from an image and its prompt to a heat map, a mask and a score."""
