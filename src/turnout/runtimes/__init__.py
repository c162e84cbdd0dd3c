"""Where replicas run: processes on this machine, and a fake for tests of everything else."""
