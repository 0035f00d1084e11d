"""From trained parameters to an artifact."""
