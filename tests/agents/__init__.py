"""The four agents against a Converse endpoint on this machine."""
