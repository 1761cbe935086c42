"""The four agents: tool-calling, structured, each with the tools of its role only."""
