"""What only a CPU needs: operations written as XLA is fast at them there."""
