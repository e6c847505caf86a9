"""Plans on label maps: sizes, safe paths, ablation, resection, uncertainty.

Distances are in mm, places in the patient's RAS coordinates. For research only.
"""
