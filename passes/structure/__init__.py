"""What matrices of weights have in common with sparse, low-rank and structured ones: the parts that
the detectors of `sparsity` and `lowrank` share."""
