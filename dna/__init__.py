"""Genes, DNA, mutations, events, and the stores that keep them."""
