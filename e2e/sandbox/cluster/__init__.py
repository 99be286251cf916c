"""The sandbox as a whole: brought up in one go, taken down without a trace."""
