"""Samples become labels: records, labelling screens, Label Studio, agreement, what to label next, blind packets."""
