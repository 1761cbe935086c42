"""Everything about calling a model: session, gateway, prices, ledger, and the stand-in."""
