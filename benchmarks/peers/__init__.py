"""The ways to store runs that are compared, anabranch among them, one module for each."""
