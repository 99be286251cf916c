"""What turns a prompt into text; the serving program knows only `engines.contract`."""
