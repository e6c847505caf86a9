"""Privacy: files of patients that may be given away, and audits of runs."""
