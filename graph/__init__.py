"""The LangGraph state machine: state, nodes, routes, checkpoints, and the Studio entry."""
