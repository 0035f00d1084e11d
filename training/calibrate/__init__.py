"""From raw logits to probabilities and labels: calibration, thresholds, recalibration of a registered model."""
