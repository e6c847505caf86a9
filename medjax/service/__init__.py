"""Diagnosis support in a hospital: studies come in, coded results go out.

Several processes share one store (`store`): the intake (`intake`, `scp`), the
courier, which sees that studies are complete (`complete`) and results arrive
(`deliver`), workers, of which each holds models in JAX (`worker`), and the
page (`web`). Everything is a row before it is an act, so that any of them may
die at any time.
"""
