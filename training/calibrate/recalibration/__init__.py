"""Other calibration and thresholds for a registered model."""
