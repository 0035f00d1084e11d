"""The model: artifact, backbone and network."""
