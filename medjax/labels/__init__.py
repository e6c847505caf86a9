"""Learning from few labels: what to label next, and what labels are worth."""
