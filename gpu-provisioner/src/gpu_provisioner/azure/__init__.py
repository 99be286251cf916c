"""Azure as the rest of the program sees it: pools, failures, budgets, and a picture of the pools."""
