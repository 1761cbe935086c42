"""Tests of genes, DNA, mutations, events and stores."""
