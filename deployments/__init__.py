"""Where it runs: the greenroom command and the local stack."""
