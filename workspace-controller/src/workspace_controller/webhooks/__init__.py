"""The admission webhook: a clear answer before anything is stored or bought."""
