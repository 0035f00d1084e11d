"""What held-out rows decide once a model is trained: calibration and thresholds."""
