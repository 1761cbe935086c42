"""The models: what is known of each, by which id it is called, what it costs."""
