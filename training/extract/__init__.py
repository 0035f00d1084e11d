"""From a labelled table to a folder that training reads."""
