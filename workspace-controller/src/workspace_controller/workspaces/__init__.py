"""The Workspace controller: observe, decide (pure), carry out, report."""
