"""Money: reserved before a call, settled after it, and told afterwards."""
