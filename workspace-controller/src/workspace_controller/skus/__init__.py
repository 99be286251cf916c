"""What is known of GPU machine sizes, and whether a model fits one."""
