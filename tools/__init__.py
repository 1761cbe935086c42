"""The tools that agents call: thin, each over one function of a lower floor."""
