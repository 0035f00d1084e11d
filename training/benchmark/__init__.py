"""``ptec benchmark``: methods on one extract, with intervals over rows and a spread over seeds."""
