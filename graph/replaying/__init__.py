"""What a replay and a fork are made of: the record of a run, a scratch store, and the comparison of both."""
