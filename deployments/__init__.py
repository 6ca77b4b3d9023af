"""The greenroom command, the local stack, deploying, demo data."""
