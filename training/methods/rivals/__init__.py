"""The generative rivals of arXiv 2309.12075: a decoder writes the labels. Benchmark only."""
