"""One layer over the two dialects of claims: Machine and NodeClaim."""
