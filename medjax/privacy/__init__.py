"""Privacy: files of patients that may be given away."""
