"""The models we know how to run, and what each needs."""
