"""The fine-tuning job: fetch, check, train, save, push, report."""
