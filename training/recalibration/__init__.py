"""Other calibration and thresholds for a registered model, from logits that are stored: no model is run."""
