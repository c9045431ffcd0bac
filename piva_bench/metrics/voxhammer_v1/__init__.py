"""voxhammer-v1: the evaluation of VoxHammer's Edit3D-Bench, quirks and all."""
